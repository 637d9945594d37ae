//! Keeps a request active until its reply is written, and detects HTTP/2 replies whose clients have stopped reading:
//! flow control stops such a reply without blocking the socket.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::task::AbortOnDropHandle;

use super::timeouts::ActiveRequest;

/// How many times longer than the limit a reply may wait while its client takes parts of other replies. With many at
/// once, each gets its turn late.
const MAX_TURN_FACTOR: u32 = 6;

/// When a reply began to wait for its client; `None` while the client waits for the reply.
struct WaitingSince(Mutex<Option<Instant>>);

impl WaitingSince {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Begins the wait anew, if there is one.
    fn restart(&self) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = since.map(|_| Instant::now());
    }

    fn is_longer_than(&self, limit: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= limit)
    }
}

/// What lives as long as any part of a reply. hyper drops the body once it has taken the last chunk, but the chunk waits
/// until the client has room for it.
struct ReplyInFlight {
    waiting: Arc<WaitingSince>,
    request: ActiveRequest,
    _watch: Option<AbortOnDropHandle<()>>,
}

/// A chunk of a reply. It is dropped when it is written.
struct Chunk {
    data: Bytes,
    reply: Arc<ReplyInFlight>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.reply.waiting.restart();
        self.reply.request.activity().note_progress();
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// A reply's body that keeps its request active until the last chunk is written.
pub(super) struct ReplyBody<B> {
    body: Pin<Box<B>>,
    reply: Arc<ReplyInFlight>,
}

impl<B> ReplyBody<B> {
    /// The reply to `request`. With a limit, the connection's activity reports a stall if the client takes no chunk of it
    /// for so long (or, while it takes others, for [`MAX_TURN_FACTOR`] times as long), and one `stall_limit` later at
    /// the latest.
    pub(super) fn new(body: B, request: ActiveRequest, stall_limit: Option<Duration>) -> Self {
        let waiting = Arc::new(WaitingSince(Mutex::new(Some(Instant::now()))));
        let watch = stall_limit.map(|limit| {
            let (waiting, activity) = (Arc::clone(&waiting), Arc::clone(request.activity()));
            AbortOnDropHandle::new(tokio::spawn(async move {
                let is_stalled = || {
                    waiting.is_longer_than(limit * MAX_TURN_FACTOR)
                        || waiting.is_longer_than(limit) && !activity.progressed_within(limit)
                };
                while !is_stalled() {
                    tokio::time::sleep(limit).await;
                }
                activity.report_stall();
            }))
        });
        let reply = ReplyInFlight { waiting, request, _watch: watch };
        Self { body: Box::pin(body), reply: Arc::new(reply) }
    }
}

impl<B: Body<Data = Bytes>> Body for ReplyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.reply.waiting.set(None);
        let polled = self.body.as_mut().poll_frame(context);
        if polled.is_ready() {
            self.reply.waiting.set(Some(Instant::now()));
        }
        let held = |data| Bytes::from_owner(Chunk { data, reply: Arc::clone(&self.reply) });
        polled.map_ok(|frame| frame.map_data(held))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TURN_FACTOR, ReplyBody};
    use crate::connection::timeouts::Activity;
    use crate::reply::full;
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_chunk_that_its_client_does_not_take_keeps_the_request_active_and_is_a_stall() {
        let activity = Arc::new(Activity::default());
        let mut body = ReplyBody::new(full("a reply"), activity.begin(), Some(LIMIT));
        let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(chunk, "a reply");
        // hyper drops the body at its end.
        drop(body);
        assert!(activity.is_active());
        tokio::time::timeout(LIMIT * 20, activity.stalled()).await.expect("a stall");
        drop(chunk);
        assert!(!activity.is_active());
    }

    #[tokio::test]
    async fn a_reply_may_wait_for_its_turn_but_not_for_ever() {
        let activity = Arc::new(Activity::default());
        let mut body = ReplyBody::new(full("a reply"), activity.begin(), Some(LIMIT));
        let _chunk = body.frame().await.unwrap().unwrap();
        let others = async {
            loop {
                activity.note_progress();
                tokio::time::sleep(LIMIT / 5).await;
            }
        };
        let began = std::time::Instant::now();
        tokio::select! {
            () = others => {}
            () = activity.stalled() => {}
        }
        assert!(began.elapsed() >= LIMIT * MAX_TURN_FACTOR, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_reply_that_is_written() {
        let activity = Arc::new(Activity::default());
        let body = ReplyBody::new(full("a reply"), activity.begin(), Some(LIMIT));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "a reply");
        assert!(!activity.is_active());
        assert!(tokio::time::timeout(LIMIT * 4, activity.stalled()).await.is_err());
    }
}
