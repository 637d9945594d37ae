//! The standard output of a CGI program: a header, which becomes the reply's status and headers, and the reply's body.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error};

use crate::handler::ReplySender;

/// The largest header, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// The most that the program may write at once, in bytes, and how many such chunks of the body may wait.
const MAX_CHUNK_BYTES: usize = 64 << 10;
const MAX_CHUNKS_IN_FLIGHT: usize = 2;

/// The standard output of one program.
#[derive(Clone)]
pub(crate) struct CgiOutput(Arc<Mutex<CgiState>>);

enum CgiState {
    Header {
        written: Vec<u8>,
        reply: ReplySender,
    },
    Body(PollSender<Bytes>),
    /// The program wrote no valid header, or has ended.
    Closed,
}

impl CgiOutput {
    /// The reply is sent as soon as its header is complete.
    pub(crate) fn new(reply: ReplySender) -> Self {
        Self(Arc::new(Mutex::new(CgiState::Header { written: Vec::new(), reply })))
    }

    /// Ends the reply, after the program has succeeded.
    pub(crate) fn finish(&self) {
        let ended = std::mem::replace(&mut *self.state(), CgiState::Closed);
        if let CgiState::Header { written, reply } = ended {
            let part = String::from_utf8_lossy(&written);
            // The receiver may be gone.
            let _ = reply.send(Err(format!(
                "the command ended without a blank line after its header {part:?}"
            )));
        }
    }

    fn state(&self) -> MutexGuard<'_, CgiState> {
        // No panic leaves it in an inconsistent state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CgiState {
    /// Waits until there is room for a chunk.
    fn poll_reserve(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match self {
            Self::Header { .. } => Poll::Ready(Ok(())),
            Self::Body(sender) => sender.poll_reserve(context).map_err(|_| StreamError::Closed),
            Self::Closed => Poll::Ready(Err(StreamError::Closed)),
        }
    }

    /// Takes a chunk, for which there must be room.
    fn take(&mut self, chunk: &[u8]) -> StreamResult<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        match self {
            Self::Header { written, .. } => {
                // The blank line may begin in what was written before.
                let from = written.len().saturating_sub(2);
                written.extend_from_slice(chunk);
                if let Some((end, body)) = blank_line(written, from) {
                    return self.begin_body(end, body);
                }
                if written.len() > MAX_HEADER_BYTES {
                    return self.fail(format!("its header has more than {MAX_HEADER_BYTES} bytes"));
                }
                Ok(())
            }
            Self::Body(sender) => {
                sender.send_item(Bytes::copy_from_slice(chunk)).map_err(|_| StreamError::Closed)
            }
            Self::Closed => Err(StreamError::Closed),
        }
    }

    /// Sends the reply whose header ends at `end`. What was written from `body` on is the beginning of its body.
    fn begin_body(&mut self, end: usize, body: usize) -> StreamResult<()> {
        let Self::Header { written, reply } = std::mem::replace(self, Self::Closed) else {
            return Err(StreamError::Closed);
        };
        let parsed = match header(&written[..end]) {
            Ok(parsed) => parsed,
            Err(reason) => {
                *self = Self::Header { written, reply };
                return self.fail(reason);
            }
        };
        let (sender, receiver) = mpsc::channel(MAX_CHUNKS_IN_FLIGHT);
        let beginning = Bytes::copy_from_slice(&written[body..]);
        if !beginning.is_empty() {
            let _ = sender.try_send(beginning);
        }
        *self = Self::Body(PollSender::new(sender));
        let response = parsed.map(|()| ReplyBody(receiver).boxed_unsync());
        // The receiver may be gone.
        let _ = reply.send(Ok(response));
        Ok(())
    }

    fn fail(&mut self, reason: String) -> StreamResult<()> {
        if let Self::Header { reply, .. } = std::mem::replace(self, Self::Closed) {
            let _ = reply.send(Err(format!("the command wrote no CGI reply: {reason}")));
        }
        Err(StreamError::Closed)
    }
}

/// The end of the header, and the beginning of the body after it: the first blank line after a line that ends at `from`
/// or later.
fn blank_line(written: &[u8], from: usize) -> Option<(usize, usize)> {
    let blank = |at: usize| {
        let rest = &written[at..];
        let length = if rest.starts_with(b"\r\n") { 2 } else { 1 };
        (length == 2 || rest.starts_with(b"\n")).then_some((at, at + length))
    };
    let line_ends = (from..written.len()).filter(|at| written[*at] == b'\n').map(|at| at + 1);
    (from == 0).then_some(0).into_iter().chain(line_ends).find_map(blank)
}

/// The reply that a header describes (RFC 3875, section 6), without a body.
fn header(text: &[u8]) -> Result<Response<()>, String> {
    let mut response = Response::new(());
    let mut status = None;
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end) {
        if line.is_empty() {
            continue;
        }
        let shown = String::from_utf8_lossy(line);
        let colon = line.iter().position(|byte| *byte == b':');
        let colon =
            colon.ok_or_else(|| format!("the line {shown:?} of its header has no colon"))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"status") {
            status = Some(status_code(value).ok_or_else(|| format!("{shown:?} is not a status"))?);
            continue;
        }
        let invalid = || format!("the line {shown:?} of its header is not an HTTP header");
        let name = HeaderName::from_bytes(name).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(value).map_err(|_| invalid())?;
        let repeats = name == CONTENT_LENGTH && response.headers().contains_key(&name);
        let is_number = value.to_str().is_ok_and(|text| text.parse::<u64>().is_ok());
        if repeats || name == CONTENT_LENGTH && !is_number {
            return Err(invalid());
        }
        // The connection is the host's.
        if !DEFAULT_FORBIDDEN_HEADERS.contains(&name) {
            response.headers_mut().append(name, value);
        }
    }
    let is_redirect = response.headers().contains_key(LOCATION);
    if status.is_none() && !is_redirect && !response.headers().contains_key(CONTENT_TYPE) {
        return Err("its header has neither Content-Type, Location nor Status".to_owned());
    }
    let default = if is_redirect { StatusCode::FOUND } else { StatusCode::OK };
    *response.status_mut() = status.unwrap_or(default);
    Ok(response)
}

/// The code of a status such as `404 Not Found`.
fn status_code(value: &[u8]) -> Option<StatusCode> {
    let code = StatusCode::from_bytes(value.split(|byte| *byte == b' ').next()?).ok()?;
    // The others are the host's.
    (200..600).contains(&code.as_u16()).then_some(code)
}

/// The body as the program writes it.
struct ReplyBody(mpsc::Receiver<Bytes>);

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(context).map(|chunk| Some(Ok(Frame::data(chunk?))))
    }
}

impl IsTerminal for CgiOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for CgiOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for CgiOutput {
    async fn ready(&mut self) {
        // `check_write` reports an error.
        let _ = poll_fn(|context| self.state().poll_reserve(context)).await;
    }
}

impl OutputStream for CgiOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.check_write()? {
            return Err(StreamError::trap("more was written than `check-write` permits"));
        }
        self.state().take(&bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.state().poll_reserve(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => room.map(|()| MAX_CHUNK_BYTES),
            Poll::Pending => Ok(0),
        }
    }
}

impl AsyncWrite for CgiOutput {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = &bytes[..bytes.len().min(MAX_CHUNK_BYTES)];
        let mut state = self.state();
        let taken = ready!(state.poll_reserve(context)).and_then(|()| state.take(chunk));
        Poll::Ready(taken.map(|()| chunk.len()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::{CgiOutput, MAX_HEADER_BYTES, header};
    use http_body_util::BodyExt;
    use tokio::sync::oneshot;
    use wasmtime_wasi::p2::OutputStream;

    #[tokio::test]
    async fn a_reply_begins_with_its_header_however_it_is_cut() {
        for text in ["Status: 201 Made\nX-A: b\n\nbody", "Status: 201\r\nX-A: b\r\n\r\nbody"] {
            for size in 1..=text.len() {
                let (reply, mut begun) = oneshot::channel();
                let mut output = CgiOutput::new(reply);
                let (begin, rest) = text.as_bytes().split_at(text.len() - "body".len());
                for chunk in begin.chunks(size) {
                    assert!(begun.try_recv().is_err());
                    output.write(chunk.to_vec().into()).unwrap();
                }
                let response = begun.try_recv().unwrap().unwrap();
                output.write(rest.to_vec().into()).unwrap();
                output.finish();
                assert_eq!(
                    (response.status().as_u16(), &response.headers()["x-a"]),
                    (201, &"b".parse().unwrap())
                );
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
            }
        }
    }

    #[tokio::test]
    async fn a_program_that_writes_too_fast_or_no_header_is_told_so() {
        let (reply, _begun) = oneshot::channel();
        let mut output = CgiOutput::new(reply);
        output.write("Status: 200\n\n".into()).unwrap();
        let chunks = (0..10)
            .take_while(|_| output.check_write().unwrap() > 0 && output.write("x".into()).is_ok());
        assert_eq!(chunks.count(), super::MAX_CHUNKS_IN_FLIGHT);
        assert!(output.write("x".into()).is_err());

        let (reply, begun) = oneshot::channel();
        let mut output = CgiOutput::new(reply);
        output.write(vec![b'x'; MAX_HEADER_BYTES].into()).unwrap();
        assert!(output.write("x".into()).is_err() && output.check_write().is_err());
        assert!(begun.await.unwrap().err().unwrap().contains("more than"));

        let (reply, begun) = oneshot::channel();
        CgiOutput::new(reply).finish();
        assert!(begun.await.unwrap().err().unwrap().contains("without a blank line"));
    }

    #[test]
    fn a_header_needs_a_status_a_type_or_a_place_and_no_connection() {
        let status = |text: &str| header(text.as_bytes()).map(|reply| reply.status().as_u16());
        assert_eq!(status("Content-Type: text/plain\n"), Ok(200));
        assert_eq!(status("location:/elsewhere\n"), Ok(302));
        assert_eq!(status("Location: /a\nStatus: 307 Temporary\n"), Ok(307));
        for text in [
            "X-A: b",
            "no colon",
            "Status: 100",
            "Status: ?",
            "a b: c",
            "Status: 200\nContent-Length: -1",
            "Status: 200\nContent-Length: 1\nContent-Length: 1",
        ] {
            assert!(status(text).is_err(), "{text}");
        }
        let reply =
            header(b"Status: 200\nTransfer-Encoding: chunked\nSet-Cookie: a\nSet-Cookie: b")
                .unwrap();
        assert!(!reply.headers().contains_key("transfer-encoding"));
        assert_eq!(reply.headers().get_all("set-cookie").iter().count(), 2);
    }
}
