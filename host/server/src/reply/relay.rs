//! Relays a reply from its guest to its client. Buffers what a slow client has not yet read, up to a limit, so that the
//! guest can end and free its memory.

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

use crate::deadline::Deadline;
use crate::inspected_body::PolledFrame;
use spotter_config::Limits;

/// The memory budget for buffered replies: in all, and for each.
pub(crate) struct ReplyMemory {
    kib: Arc<Semaphore>,
    max_reply_kib: u32,
}

/// What every reply may buffer even if the shared budget is used up, in KiB.
const MIN_REPLY_KIB: u32 = 64;

/// The largest chunk that is passed on, in bytes.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// The least that a chunk counts against the budget, in bytes, to cover its overhead.
const MIN_CHUNK_COST_BYTES: usize = 256;

impl ReplyMemory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let all = usize::try_from(limits.reply_memory >> 10).unwrap_or(usize::MAX);
        let max_reply_kib = u32::try_from(limits.reply_buffer >> 10).unwrap_or(u32::MAX);
        Self {
            kib: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            max_reply_kib: max_reply_kib.max(MIN_REPLY_KIB),
        }
    }

    /// Reserves memory for one reply: its maximum, or its length if that is known and smaller. Falls back to
    /// [`MIN_REPLY_KIB`] if the shared budget is used up.
    fn reserve(&self, length: Option<u64>) -> Reservation {
        let of_use = length.map_or(u64::MAX, |length| length.div_ceil(1 << 10));
        let wanted = u32::try_from(of_use).unwrap_or(u32::MAX);
        let wanted = wanted.clamp(MIN_REPLY_KIB, self.max_reply_kib);
        let reserved = Arc::clone(&self.kib).try_acquire_many_owned(wanted).ok();
        let kib = if reserved.is_some() { wanted } else { MIN_REPLY_KIB };
        let size = u32::try_from(u64::from(kib) << 10).unwrap_or(u32::MAX);
        let bytes = Arc::new(Semaphore::new(size as usize));
        Reservation { bytes, size, reserved: reserved.map(Arc::new) }
    }
}

/// The reply's `Content-Length`.
fn content_length(reply: &Response<WasiBody>) -> Option<u64> {
    reply.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The memory that one reply may use, until its last chunk is written.
struct Reservation {
    bytes: Arc<Semaphore>,
    size: u32,
    reserved: Option<Arc<OwnedSemaphorePermit>>,
}

/// Whether a reply's body is sent to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyPolicy {
    Send,
    Discard,
}

impl BodyPolicy {
    /// Applies RFC 9110, section 6.4.1.
    pub(super) fn for_reply(method: &Method, status: StatusCode) -> Self {
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if *method == Method::HEAD || has_none { Self::Discard } else { Self::Send }
    }
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayEnd {
    /// The guest's whole reply has been sent or buffered.
    Complete,
    /// The client disconnected before the end.
    ClientGone,
}

/// The guest's side of a reply's body.
pub(crate) struct Relay {
    body: WasiBody,
    policy: BodyPolicy,
    /// The reply's `Content-Length`, and the bytes sent so far.
    length: Option<u64>,
    sent: u64,
    budget: Arc<Semaphore>,
    size: u32,
    to: UnboundedSender<BufferedFrame>,
}

enum NextFrame {
    Frame(Result<Frame<Bytes>, Error>),
    End,
    ClientGone,
}

/// A frame of the body (`None` at its end), with the memory that it occupies.
struct BufferedFrame {
    frame: Option<Result<Frame<Bytes>, Error>>,
    permit: Option<OwnedSemaphorePermit>,
}

/// A chunk with the memory that it occupies until it is written.
struct Chunk {
    data: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
    _reserved: Option<Arc<OwnedSemaphorePermit>>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Splits a guest's reply into a response for the client and a relay that must be [run](Relay::run).
pub(crate) fn split(
    reply: Response<WasiBody>,
    method: &Method,
    memory: &ReplyMemory,
) -> (Response<WasiBody>, Relay) {
    let policy = BodyPolicy::for_reply(method, reply.status());
    let length = content_length(&reply);
    let (parts, body) = reply.into_parts();
    let Reservation { bytes: budget, size, reserved } = memory.reserve(length);
    let (to, from) = unbounded_channel();
    let buffered = BufferedBody {
        from,
        hint: body.size_hint(),
        remaining: length,
        is_ended: policy == BodyPolicy::Discard || length == Some(0) || body.is_end_stream(),
        reserved,
    };
    let relay = Relay { body, policy, length, sent: 0, budget, size, to };
    (Response::from_parts(parts, buffered.boxed_unsync()), relay)
}

impl Relay {
    /// Relays the body as the guest writes it. At its end, `is_truncated` tells whether the guest was stopped
    /// there. The client then gets an error, so that it cannot take the body for complete. Each chunk that is passed on
    /// extends the deadline.
    pub(crate) async fn run(
        mut self,
        deadline: &Deadline,
        is_truncated: impl Fn() -> bool,
    ) -> RelayEnd {
        loop {
            let end = match self.next().await {
                NextFrame::Frame(Ok(frame)) => self.pass(frame, deadline).await,
                NextFrame::Frame(Err(error)) => {
                    let _ = self.to.send(BufferedFrame { frame: Some(Err(error)), permit: None });
                    return RelayEnd::Complete;
                }
                NextFrame::ClientGone => return RelayEnd::ClientGone,
                NextFrame::End => break,
            };
            if end == RelayEnd::ClientGone {
                return RelayEnd::ClientGone;
            }
        }
        let end = is_truncated().then_some(Err(Error::HttpResponseIncomplete));
        // A client that has already got the whole `Content-Length` does not wait for this.
        let _ = self.to.send(BufferedFrame { frame: end, permit: None });
        RelayEnd::Complete
    }

    async fn next(&mut self) -> NextFrame {
        let next = |frame: Option<_>| frame.map_or(NextFrame::End, NextFrame::Frame);
        if self.policy == BodyPolicy::Discard || self.length == Some(self.sent) {
            return next(self.body.frame().await);
        }
        tokio::select! {
            biased;
            frame = self.body.frame() => next(frame),
            () = self.to.closed() => NextFrame::ClientGone,
        }
    }

    /// Relays a frame in chunks.
    async fn pass(&mut self, frame: Frame<Bytes>, deadline: &Deadline) -> RelayEnd {
        if self.policy == BodyPolicy::Discard {
            return RelayEnd::Complete;
        }
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return self.send(trailers, 0).await,
        };
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(MAX_CHUNK_BYTES));
            let length = chunk.len();
            if self.send(Frame::data(chunk), length).await == RelayEnd::ClientGone {
                return RelayEnd::ClientGone;
            }
            deadline.extend();
        }
        RelayEnd::Complete
    }

    async fn send(&mut self, frame: Frame<Bytes>, length: usize) -> RelayEnd {
        let cost =
            u32::try_from(length.max(MIN_CHUNK_COST_BYTES)).unwrap_or(u32::MAX).min(self.size);
        let permit = tokio::select! {
            permit = Arc::clone(&self.budget).acquire_many_owned(cost) => permit.ok(),
            () = self.to.closed() => return RelayEnd::ClientGone,
        };
        self.sent += length as u64;
        match self.to.send(BufferedFrame { frame: Some(Ok(frame)), permit }) {
            Ok(()) => RelayEnd::Complete,
            Err(_) => RelayEnd::ClientGone,
        }
    }
}

/// The client's side of a reply's body.
struct BufferedBody {
    from: UnboundedReceiver<BufferedFrame>,
    hint: SizeHint,
    /// The bytes still to come, if the reply has a `Content-Length`.
    remaining: Option<u64>,
    is_ended: bool,
    reserved: Option<Arc<OwnedSemaphorePermit>>,
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let Some(BufferedFrame { frame, permit }) = ready!(self.from.poll_recv(context)) else {
            // The guest was stopped in the middle of the body.
            self.is_ended = true;
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => {
                self.is_ended = true;
                return Poll::Ready(frame);
            }
        };
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(bytes);
            self.is_ended = *remaining == 0;
        }
        let reserved = self.reserved.clone();
        let chunk = |data| Bytes::from_owner(Chunk { data, _permit: permit, _reserved: reserved });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplyMemory, split};
    use crate::deadline::Deadline;
    use crate::reply::full;
    use http::{Method, Response};
    use http_body_util::BodyExt;
    use spotter_config::Limits;
    use std::time::Duration;

    #[tokio::test]
    async fn a_chunk_counts_until_it_is_written() {
        let memory = ReplyMemory::new(&Limits::default());
        let all = memory.kib.available_permits();
        let (response, relay) = split(Response::new(full("a reply")), &Method::GET, &memory);
        let bytes = std::sync::Arc::clone(&relay.budget);
        let unused = bytes.available_permits();
        relay.run(&Deadline::new(Duration::from_secs(60)), || false).await;
        let mut body = response.into_body();
        let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(chunk, "a reply");
        // hyper drops the body at its end, and keeps the chunk until the client has room for it.
        drop(body);
        assert!(memory.kib.available_permits() < all && bytes.available_permits() < unused);
        drop(chunk);
        assert_eq!((memory.kib.available_permits(), bytes.available_permits()), (all, unused));
    }
}
