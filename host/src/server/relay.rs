//! A reply on its way from its guest to its client. What the client is slow to take is held here, up to
//! a bound, so that the guest can end and make room for the next.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::Step;
use crate::runtime::Limits;

/// How many bytes of replies may be held at once, and how many of each.
pub struct ReplyMemory {
    kibibytes: Arc<Semaphore>,
    of_each: u32,
}

/// What a reply may hold where there is no memory left for more, in KiB.
const LEAST: u32 = 64;

impl ReplyMemory {
    pub fn new(limits: &Limits) -> Self {
        let all = usize::try_from(limits.reply_memory >> 10).unwrap_or(usize::MAX);
        let of_each = u32::try_from(limits.reply_buffer >> 10).unwrap_or(u32::MAX);
        Self {
            kibibytes: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            of_each: of_each.max(LEAST),
        }
    }

    /// Room for one reply: as much as it may have, or what is always there.
    fn reserve(&self) -> Room {
        let reserved = Arc::clone(&self.kibibytes).try_acquire_many_owned(self.of_each).ok();
        let kibibytes = if reserved.is_some() { self.of_each } else { LEAST };
        let size = u32::try_from(u64::from(kibibytes) << 10).unwrap_or(u32::MAX);
        Room { bytes: Arc::new(Semaphore::new(size as usize)), size, reserved }
    }
}

/// The bytes that one reply may hold.
struct Room {
    bytes: Arc<Semaphore>,
    size: u32,
    reserved: Option<OwnedSemaphorePermit>,
}

/// Whether a reply's body goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Whole,
    HeaderOnly,
}

impl Wanted {
    /// What a client gets of a reply (RFC 9110, section 6.4.1).
    pub fn of(method: &Method, status: StatusCode) -> Self {
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if *method == Method::HEAD || has_none { Self::HeaderOnly } else { Self::Whole }
    }
}

/// How a relay came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest's reply is sent, or held for its client.
    Whole,
    /// The client went away before.
    ClientGone,
}

/// The guest's side of a reply's body.
pub struct Relay {
    body: WasiBody,
    wanted: Wanted,
    /// The length the reply says it has, and what has been passed on.
    length: Option<u64>,
    passed: u64,
    room: Arc<Semaphore>,
    size: u32,
    to: UnboundedSender<Piece>,
}

enum Next {
    Frame(Result<Frame<Bytes>, Error>),
    End,
    ClientGone,
}

/// One step of a body; none at its end. The permit frees its room when the client's side takes it.
type Piece = (Option<Result<Frame<Bytes>, Error>>, Option<OwnedSemaphorePermit>);

/// Divides a guest's reply: the response is for its client, the relay has to be [run](Relay::run).
pub fn divide(
    reply: Response<WasiBody>,
    method: &Method,
    memory: &ReplyMemory,
) -> (Response<WasiBody>, Relay) {
    let wanted = Wanted::of(method, reply.status());
    let length = reply.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse().ok());
    let (parts, body) = reply.into_parts();
    let Room { bytes: room, size, reserved } = memory.reserve();
    let (to, from) = unbounded_channel();
    let held = HeldBody {
        from,
        hint: body.size_hint(),
        remaining: length,
        is_over: wanted == Wanted::HeaderOnly || length == Some(0) || body.is_end_stream(),
        _reserved: reserved,
    };
    let relay = Relay { body, wanted, length, passed: 0, room, size, to };
    (Response::from_parts(parts, held.boxed_unsync()), relay)
}

impl Relay {
    /// Passes the body on as its guest writes it. `is_cut` tells, at the body's end, whether that is
    /// where the guest was stopped: no client may take it for the whole.
    pub async fn run(mut self, is_cut: impl Fn() -> bool) -> Ended {
        loop {
            let frame = match self.next().await {
                Next::Frame(frame) => frame,
                Next::ClientGone => return Ended::ClientGone,
                Next::End => break,
            };
            let is_last = frame.is_err();
            match self.pass(frame).await {
                Ended::Whole if is_last => return Ended::Whole,
                Ended::Whole => {}
                Ended::ClientGone => return Ended::ClientGone,
            }
        }
        let end = is_cut().then_some(Err(Error::HttpResponseIncomplete));
        // A client that has all it was promised need not wait for this.
        let _ = self.to.send((end, None));
        Ended::Whole
    }

    async fn next(&mut self) -> Next {
        let of = |frame: Option<_>| frame.map_or(Next::End, Next::Frame);
        if self.wanted == Wanted::HeaderOnly || self.length == Some(self.passed) {
            return of(self.body.frame().await);
        }
        tokio::select! {
            biased;
            frame = self.body.frame() => of(frame),
            () = self.to.closed() => Next::ClientGone,
        }
    }

    async fn pass(&mut self, frame: Result<Frame<Bytes>, Error>) -> Ended {
        if self.wanted == Wanted::HeaderOnly {
            return Ended::Whole;
        }
        let bytes = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
        let room = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.size);
        let permit = tokio::select! {
            permit = Arc::clone(&self.room).acquire_many_owned(room) => permit.ok(),
            () = self.to.closed() => None,
        };
        self.passed += bytes as u64;
        match self.to.send((Some(frame), permit)) {
            Ok(()) => Ended::Whole,
            Err(_) => Ended::ClientGone,
        }
    }
}

/// The client's side of a reply's body.
struct HeldBody {
    from: UnboundedReceiver<Piece>,
    hint: SizeHint,
    /// How much is to come, where the reply says its length.
    remaining: Option<u64>,
    is_over: bool,
    _reserved: Option<OwnedSemaphorePermit>,
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Step {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Some((frame, _)) = ready!(self.from.poll_recv(context)) else {
            // The guest was stopped in the middle of it.
            self.is_over = true;
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => {
                self.is_over = true;
                return Poll::Ready(frame);
            }
        };
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(bytes);
            self.is_over = *remaining == 0;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
