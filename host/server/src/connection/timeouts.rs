//! Closes connections that stay idle, whose headers arrive too slowly, or whose clients read too slowly. A client that
//! closes its side of a connection gets a little time for its reply.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::write_timeout::WriteTimeout;
use spotter_config::Limits;

/// How long a stopping server keeps an idle connection open: a request may be in the socket's buffer already, or
/// on its way.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// How long requests of HTTP/1.1 go on after the client has closed its side of the connection. It may be waiting for the
/// reply (`nc -N`, some health checks), or it may be gone: TCP does not tell which.
const HALF_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The state that a connection's stream shares with its requests.
#[derive(Default)]
pub(crate) struct Activity {
    /// How many requests have begun.
    begun: AtomicU64,
    /// How many guards of unfinished requests exist.
    active: AtomicUsize,
    draining: AtomicBool,
    /// The connection's task, while it waits for input.
    reader: AtomicWaker,
    /// Notified when a client no longer takes a reply.
    stalled: Notify,
    /// When the client last took a part of any reply.
    progressed: Mutex<Option<Instant>>,
}

impl Activity {
    /// Begins a request. It lasts until the guard and its clones are dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.active.fetch_add(1, Ordering::AcqRel);
        ActiveRequest(Arc::clone(self))
    }

    /// From now on, the connection stays idle for no longer than [`DRAIN_TIMEOUT`]. Poll it afterwards.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Notes that the client has taken a part of a reply.
    pub(super) fn note_progress(&self) {
        *self.progressed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether the client has taken a part of any reply within this time.
    pub(super) fn progressed_within(&self, time: Duration) -> bool {
        let last = *self.progressed.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < time)
    }

    /// Reports that the client no longer takes a reply.
    pub(super) fn report_stall(&self) {
        self.stalled.notify_one();
    }

    /// Waits until a stall is reported.
    pub(crate) async fn stalled(&self) {
        self.stalled.notified().await;
    }

    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }
}

/// A request whose body has not ended, or whose reply is not written.
pub(crate) struct ActiveRequest(Arc<Activity>);

impl ActiveRequest {
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.0
    }
}

impl Clone for ActiveRequest {
    fn clone(&self) -> Self {
        self.0.active.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The connection is idle now: its task has to start the timer.
            self.0.reader.wake();
        }
    }
}

/// What a connection waits for while no request is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first byte of its first request.
    FirstRequest,
    /// The first byte of its next request.
    NextRequest,
    /// The rest of a header.
    RestOfHeader,
}

/// A stream whose reads end, as if the client had closed it, when the connection has been idle for too long, and
/// fail when a header takes too long. Its writes fail when the client reads too slowly. While a request is active, the end of the stream is reported after
/// [`HALF_CLOSE_TIMEOUT`], because hyper then drops the request.
pub(crate) struct TimedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    header_timeout: Duration,
    keep_alive_timeout: Duration,
    awaited: Awaited,
    /// How many requests had begun at the last read.
    begun: u64,
    timer: Option<Pin<Box<Sleep>>>,
    /// The time that `timer` measures; `None` while it is unused.
    measured: Option<(Awaited, Duration)>,
    is_header_late: bool,
    /// Whether bytes can arrive that belong to no header, such as HTTP/2's pings.
    has_frames: bool,
    /// The time that active requests still have; `None` while the client has not closed its side.
    half_closed: Option<Pin<Box<Sleep>>>,
    write_timeout: WriteTimeout,
}

impl<S> TimedStream<S> {
    pub(crate) fn new(stream: S, limits: &Limits, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            header_timeout: limits.header_timeout,
            keep_alive_timeout: limits.keep_alive_timeout,
            awaited: Awaited::FirstRequest,
            begun: 0,
            timer: None,
            measured: None,
            is_header_late: false,
            has_frames: false,
            half_closed: None,
            write_timeout: WriteTimeout::new(limits.body_idle_timeout),
        }
    }

    /// From now on, the client sends frames of HTTP/2. They restart no timer, unless they begin a request.
    pub(super) fn expect_frames(&mut self) {
        self.has_frames = true;
        self.awaited = Awaited::NextRequest;
    }

    /// Whether a read failed because a header took too long.
    pub(super) fn is_header_late(&self) -> bool {
        self.is_header_late
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Notices the requests that have begun since the last read.
    fn catch_up(&mut self) {
        let begun = self.activity.begun.load(Ordering::Acquire);
        if begun != self.begun {
            self.begun = begun;
            self.awaited = Awaited::NextRequest;
            self.measured = None;
        }
    }

    fn limit(&self) -> Duration {
        let limit = match self.awaited {
            Awaited::FirstRequest | Awaited::RestOfHeader => self.header_timeout,
            Awaited::NextRequest => self.keep_alive_timeout,
        };
        let is_draining = self.activity.draining.load(Ordering::Acquire);
        if is_draining && self.awaited != Awaited::RestOfHeader {
            limit.min(DRAIN_TIMEOUT)
        } else {
            limit
        }
    }

    /// Reports the end of the stream once all replies are written, or their time is over.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.reader.register(context.waker());
        let timer = self
            .half_closed
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSE_TIMEOUT)));
        if self.activity.is_active() || self.write_timeout.is_blocked() {
            ready!(timer.as_mut().poll(context));
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the time limit for the awaited event is over.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.reader.register(context.waker());
        // hyper drops what it has not written when a read ends.
        if self.activity.is_active() || self.write_timeout.is_blocked() {
            self.measured = None;
            return Poll::Pending;
        }
        let wanted = (self.awaited, self.limit());
        let end = Instant::now() + wanted.1;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if self.measured != Some(wanted) {
            self.measured = Some(wanted);
            timer.as_mut().reset(end);
        }
        ready!(timer.as_mut().poll(context));
        if self.awaited == Awaited::RestOfHeader {
            self.is_header_late = true;
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.half_closed.is_some() {
            return self.poll_end(context);
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.catch_up();
        if polled.is_pending() {
            return self.poll_timer(context);
        }
        if buffer.filled().len() > before && !self.activity.is_active() && !self.has_frames {
            self.awaited = Awaited::RestOfHeader;
        }
        let has_ended = matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        if has_ended && !self.has_frames {
            return self.poll_end(context);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.write_timeout.after_write(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.write_timeout.after_write(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.write_timeout.after_flush(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.write_timeout.after_flush(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::{Activity, HALF_CLOSE_TIMEOUT, TimedStream};
    use spotter_config::Limits;
    use std::io::ErrorKind;
    use std::sync::Arc;
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const HEADER: Duration = Duration::from_millis(100);
    const KEEP_ALIVE: Duration = Duration::from_millis(400);

    fn limits() -> Limits {
        Limits { header_timeout: HEADER, keep_alive_timeout: KEEP_ALIVE, ..Limits::default() }
    }

    #[tokio::test]
    async fn each_wait_has_its_own_time() {
        let (mut client, server) = tokio::io::duplex(64);
        let activity = Arc::new(Activity::default());
        let mut stream = TimedStream::new(server, &limits(), Arc::clone(&activity));
        let mut buffer = [0; 8];
        client.write_all(b"GET").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 3);
        let request = activity.begin();
        // A request takes as long as it takes.
        let held = request.clone();
        drop(request);
        assert!(tokio::time::timeout(KEEP_ALIVE * 2, stream.read(&mut buffer)).await.is_err());
        // Its end starts the time for the next one, even if nothing else wakes the connection.
        let began = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(HEADER).await;
            drop(held);
        });
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
        assert!(began.elapsed() >= KEEP_ALIVE, "{:?}", began.elapsed());
        assert!(!stream.is_header_late());
        client.write_all(b"G").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
        let late = stream.read(&mut buffer).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(stream.is_header_late());
    }

    #[tokio::test]
    async fn a_client_that_closes_its_side_has_a_second_for_its_reply() {
        let activity = Arc::new(Activity::default());
        let mut buffer = [0; 8];
        for (reply_takes, is_complete) in [(HEADER, true), (HALF_CLOSE_TIMEOUT * 20, false)] {
            let (mut client, server) = tokio::io::duplex(64);
            let mut stream = TimedStream::new(server, &limits(), Arc::clone(&activity));
            client.write_all(b"GET").await.unwrap();
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 3);
            let request = activity.begin();
            client.shutdown().await.unwrap();
            let began = Instant::now();
            tokio::spawn(async move {
                tokio::time::sleep(reply_takes).await;
                drop(request);
            });
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
            assert_eq!(!activity.is_active(), is_complete);
            assert!(is_complete || began.elapsed() >= HALF_CLOSE_TIMEOUT);
        }
    }

    #[tokio::test]
    async fn a_connection_is_not_idle_while_a_reply_waits_to_be_written() {
        let (mut client, server) = tokio::io::duplex(64);
        let activity = Arc::new(Activity::default());
        activity.drain();
        let (mut reader, mut writer) =
            tokio::io::split(TimedStream::new(server, &limits(), Arc::clone(&activity)));
        let reply = tokio::spawn(async move {
            writer.write_all(&[7; 100]).await.unwrap();
            writer.flush().await.unwrap();
            writer
        });
        tokio::task::yield_now().await;
        let mut buffer = [0; 100];
        assert!(tokio::time::timeout(KEEP_ALIVE, reader.read(&mut buffer)).await.is_err());
        client.read_exact(&mut buffer).await.unwrap();
        let _writer = reply.await.unwrap();
        assert_eq!(reader.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_connection_whose_blocked_reply_is_taken_at_once_is_idle_afterwards() {
        const REPLY_BYTES: usize = 140_000;
        let (mut client, server) = tokio::io::duplex(REPLY_BYTES / 2);
        let stream = TimedStream::new(server, &limits(), Arc::default());
        let (mut reader, mut writer) = tokio::io::split(stream);
        tokio::spawn(async move {
            tokio::time::sleep(HEADER * 2).await;
            client.read_exact(&mut [0; REPLY_BYTES]).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut buffer = [0; 8];
        let reply = async {
            writer.write_all(&[7; REPLY_BYTES]).await.unwrap();
            writer.flush().await.unwrap();
        };
        // Like hyper, one task reads first, and then writes.
        let connection = futures_util::future::join(reader.read(&mut buffer), reply);
        let (read, ()) = tokio::time::timeout(KEEP_ALIVE * 4, connection).await.unwrap();
        assert_eq!(read.unwrap(), 0);
    }
}
