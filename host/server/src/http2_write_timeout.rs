//! Detects HTTP/2 replies whose clients have stopped reading: flow control stops such a
//! reply without blocking the socket.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, SizeHint};

/// When a reply began to wait for its client; `None` while the client waits for the reply.
struct WaitingSince(Mutex<Option<Instant>>);

impl WaitingSince {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn is_longer_than(&self, limit: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= limit)
    }
}

/// A reply's body that records when hyper asks for more of it, which it does as long as the client has room.
pub struct StallDetectingBody<B> {
    body: Pin<Box<B>>,
    waiting: Arc<WaitingSince>,
}

impl<B> StallDetectingBody<B> {
    pub fn new(body: B) -> Self {
        let waiting = Arc::new(WaitingSince(Mutex::new(Some(Instant::now()))));
        Self { body: Box::pin(body), waiting }
    }

    /// Calls `on_stall` if the client takes nothing for `limit`, at the latest after twice that time.
    pub fn watch(&self, limit: Duration, on_stall: impl FnOnce() + Send + 'static) {
        let waiting = Arc::downgrade(&self.waiting);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(limit).await;
                // The body is dropped at its end.
                let Some(waiting) = waiting.upgrade() else { return };
                if waiting.is_longer_than(limit) {
                    return on_stall();
                }
            }
        });
    }
}

impl<B: Body> Body for StallDetectingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.waiting.set(None);
        let polled = self.body.as_mut().poll_frame(context);
        if polled.is_ready() {
            self.waiting.set(Some(Instant::now()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
