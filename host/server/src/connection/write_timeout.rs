//! Limits how slowly a client may read its replies.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The progress, in bytes, that restarts the timer: a client must take this much within one period.
const MIN_PROGRESS_BYTES: usize = 64 << 10;

/// Makes a stream's writes fail if the stream is blocked and takes fewer than [`MIN_PROGRESS_BYTES`] within `period`.
/// A timeout on each write alone would let a client occupy a connection by reading a byte now and then.
pub(super) struct WriteTimeout {
    period: Duration,
    /// From the first blocked write until the flush: the timer, and the bytes that the socket has taken since its start.
    blocked: Option<(Pin<Box<Sleep>>, usize)>,
}

impl WriteTimeout {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, blocked: None }
    }

    /// Whether there is a part of a reply that the socket does not take yet.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Turns the result of a write into an error when the time is over.
    pub(super) fn after_write(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(wrote) = polled else { return self.poll_timer(context).map(Err) };
        if let (Some((timer, taken)), Ok(bytes)) = (&mut self.blocked, &wrote) {
            *taken += bytes;
            if *taken >= MIN_PROGRESS_BYTES {
                *taken = 0;
                timer.as_mut().reset(Instant::now() + self.period);
            }
        }
        Poll::Ready(wrote)
    }

    /// Does the same for the result of a flush, which ends the blocked writes.
    pub(super) fn after_flush(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let Poll::Ready(flushed) = polled else { return self.poll_timer(context).map(Err) };
        if self.blocked.take().is_some() {
            // The connection may end now, or becomes idle.
            context.waker().wake_by_ref();
        }
        Poll::Ready(flushed)
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let period = self.period;
        let (timer, _) =
            self.blocked.get_or_insert_with(|| (Box::pin(tokio::time::sleep(period)), 0));
        timer.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }
}
