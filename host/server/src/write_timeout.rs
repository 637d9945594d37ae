//! Closes connections whose clients read their replies too slowly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How much a client has to read within the period before the timer restarts, in bytes.
const MIN_PROGRESS_BYTES: usize = 64 << 10;

/// A stream whose writes fail if they are blocked and fewer than [`MIN_PROGRESS_BYTES`] go out within `period`.
/// A timeout on each write alone would let a client occupy a connection by reading a byte now and then.
pub struct MinRateStream<S> {
    stream: S,
    period: Duration,
    /// While writes are blocked: the timer, and the bytes that the client has read since it started.
    stalled: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> MinRateStream<S> {
    pub fn new(stream: S, period: Duration) -> Self {
        Self { stream, period, stalled: None }
    }

    fn watch_write(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(wrote) = polled else { return self.poll_deadline(context).map(Err) };
        if let (Some((_, taken)), Ok(bytes)) = (&mut self.stalled, &wrote) {
            *taken += bytes;
            if *taken >= MIN_PROGRESS_BYTES {
                self.stalled = None;
            }
        }
        Poll::Ready(wrote)
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let period = self.period;
        let (deadline, _) =
            self.stalled.get_or_insert_with(|| (Box::pin(tokio::time::sleep(period)), 0));
        deadline.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MinRateStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MinRateStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch_write(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.poll_deadline(context).map(Err),
            flushed => {
                self.stalled = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.poll_deadline(context).map(Err),
            shut => shut,
        }
    }
}
