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

/// What every reply may hold, though there be no memory left for more, in KiB.
const ALWAYS: u32 = 64;

/// The largest piece that is passed on, in bytes: the socket's side takes whole pieces.
const PIECE: usize = 64 << 10;

/// What a piece takes at the least, in bytes, however few are in it.
const PIECE_COST: usize = 256;

impl ReplyMemory {
    pub fn new(limits: &Limits) -> Self {
        let all = usize::try_from(limits.reply_memory >> 10).unwrap_or(usize::MAX);
        let of_each = u32::try_from(limits.reply_buffer >> 10).unwrap_or(u32::MAX);
        Self {
            kibibytes: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            of_each: of_each.max(ALWAYS),
        }
    }

    /// Room for one reply: as much as it may have and, where it says its length, use; or what is always
    /// there.
    fn reserve(&self, length: Option<u64>) -> Room {
        let of_use = length.map_or(u64::MAX, |length| length.div_ceil(1 << 10));
        let wanted = u32::try_from(of_use).unwrap_or(u32::MAX).clamp(ALWAYS, self.of_each);
        let reserved = Arc::clone(&self.kibibytes).try_acquire_many_owned(wanted).ok();
        let kibibytes = if reserved.is_some() { wanted } else { ALWAYS };
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

/// One step of a body, none at its end, with the room it takes until the client's side has it.
struct Piece {
    frame: Option<Result<Frame<Bytes>, Error>>,
    _room: Option<OwnedSemaphorePermit>,
}

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
    let Room { bytes: room, size, reserved } = memory.reserve(length);
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
            let passed = match self.next().await {
                Next::Frame(Ok(frame)) => self.pass(frame).await,
                Next::Frame(Err(error)) => {
                    let _ = self.to.send(Piece { frame: Some(Err(error)), _room: None });
                    return Ended::Whole;
                }
                Next::ClientGone => return Ended::ClientGone,
                Next::End => break,
            };
            if passed == Ended::ClientGone {
                return Ended::ClientGone;
            }
        }
        let end = is_cut().then_some(Err(Error::HttpResponseIncomplete));
        // A client that has all it was promised need not wait for this.
        let _ = self.to.send(Piece { frame: end, _room: None });
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

    /// Passes a frame on, in pieces.
    async fn pass(&mut self, frame: Frame<Bytes>) -> Ended {
        if self.wanted == Wanted::HeaderOnly {
            return Ended::Whole;
        }
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return self.send(trailers, 0).await,
        };
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE));
            let length = piece.len();
            if self.send(Frame::data(piece), length).await == Ended::ClientGone {
                return Ended::ClientGone;
            }
        }
        Ended::Whole
    }

    async fn send(&mut self, frame: Frame<Bytes>, length: usize) -> Ended {
        let cost = u32::try_from(length.max(PIECE_COST)).unwrap_or(u32::MAX).min(self.size);
        let room = tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(cost) => room.ok(),
            () = self.to.closed() => return Ended::ClientGone,
        };
        self.passed += length as u64;
        match self.to.send(Piece { frame: Some(Ok(frame)), _room: room }) {
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
        let Some(Piece { frame, .. }) = ready!(self.from.poll_recv(context)) else {
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
