//! Writes a guest's standard streams to the host's log, line by line, with the component's name.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// The log target of guests' lines.
pub const LOG_TARGET: &str = "guest";

/// The most that a request may log, in bytes. The rest is dropped, with a line that says so.
const MAX_LOG_BYTES: usize = 64 << 10;

/// Longer lines are split.
const MAX_LINE_BYTES: usize = 4 << 10;

/// One standard stream of one guest.
#[derive(Clone)]
pub(super) struct GuestLog(Arc<Mutex<Lines>>);

struct Lines {
    component: String,
    stream: &'static str,
    pending: Vec<u8>,
    written: usize,
}

impl GuestLog {
    /// The stream `stdout` or `stderr` of a component.
    pub(super) fn new(component: &str, stream: &'static str) -> Self {
        let component = component.to_owned();
        Self(Arc::new(Mutex::new(Lines { component, stream, pending: Vec::new(), written: 0 })))
    }

    fn take(&self, bytes: &[u8]) {
        // A panic while logging leaves no inconsistent state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        let remaining = MAX_LOG_BYTES.saturating_sub(self.written);
        self.written += bytes.len();
        if remaining == 0 {
            return;
        }
        self.pending.extend_from_slice(&bytes[..bytes.len().min(remaining)]);
        while let Some(end) = self.line_end() {
            let line: Vec<u8> = self.pending.drain(..end).collect();
            self.emit(&line);
        }
        if self.written > MAX_LOG_BYTES {
            self.emit(b"(this request has logged 64 KiB: the rest of its log is dropped)");
        }
    }

    fn line_end(&self) -> Option<usize> {
        let newline = self.pending.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        newline.or((self.pending.len() >= MAX_LINE_BYTES).then_some(MAX_LINE_BYTES))
    }

    fn emit(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if !text.is_empty() {
            tracing::info!(target: LOG_TARGET, component = self.component, stream = self.stream, "{text}");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.pending);
        self.emit(&rest);
    }
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestLog {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LOG_BYTES)
    }
}

impl AsyncWrite for GuestLog {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
