//! A connection that fails once a server has sent more for one command than it may.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How much a server may send for one command.
pub(crate) struct ReplyLimit {
    max_bytes: usize,
    remaining: AtomicUsize,
}

impl ReplyLimit {
    pub(crate) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { max_bytes, remaining: AtomicUsize::new(max_bytes) })
    }

    /// Lets the server send as much again. Call it before each command.
    pub(crate) fn reset(&self) {
        self.remaining.store(self.max_bytes, Ordering::Relaxed);
    }

    /// Lets the server send a reply more than it already may, where several commands wait at once.
    pub(crate) fn add_reply(&self) {
        self.remaining.fetch_add(self.max_bytes, Ordering::Relaxed);
    }

    /// Lets the server send no more than this number of replies.
    pub(crate) fn keep_replies(&self, number: usize) {
        self.remaining.fetch_min(number * self.max_bytes, Ordering::Relaxed);
    }

    /// Counts bytes that have arrived. Returns whether the server was allowed to send them.
    pub(crate) fn spend(&self, bytes: usize) -> bool {
        let spend = |remaining: usize| remaining.checked_sub(bytes);
        self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }
}

pub(crate) struct LimitedStream {
    stream: TcpStream,
    limit: Arc<ReplyLimit>,
}

impl LimitedStream {
    pub(crate) fn new(stream: TcpStream, limit: Arc<ReplyLimit>) -> Self {
        Self { stream, limit }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let received = buffer.filled().len() - before;
        if !self.limit.spend(received) {
            let max_bytes = self.limit.max_bytes;
            let text = format!("the server's reply has more than {max_bytes} bytes");
            return Poll::Ready(Err(io::Error::other(text)));
        }
        read
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
