//! A request's body, received before an instance is made for it: a slow client holds up nobody but
//! itself. What is held for all of them together is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{LimitedBody, Step};
use super::fault::Fault;
use crate::runtime::Limits;

/// How many bytes of bodies may be held at once. Where they are all taken, the bodies that have made no
/// progress for the longest are given up for the others.
pub struct UploadMemory {
    most: u64,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// What all bodies hold, the whole ones too that wait for their guests.
    used: u64,
    /// Those that are being received, by their number.
    under_way: BTreeMap<u64, UnderWay>,
    count: u64,
}

struct UnderWay {
    held: u64,
    progressed: Instant,
    given_up: Arc<Notify>,
}

impl UploadMemory {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { most: limits.upload_memory, ledger: Mutex::default() })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Gives up bodies other than `own`, until so many bytes are free; none where that would not do.
    fn make_room(&mut self, own: u64, bytes: u64) -> bool {
        let others =
            self.under_way.iter().filter(|(number, body)| **number != own && body.held > 0);
        let mut others: Vec<_> =
            others.map(|(number, body)| (body.progressed, *number, body.held)).collect();
        if others.iter().map(|(_, _, held)| held).sum::<u64>() < bytes {
            return false;
        }
        others.sort_unstable();
        let mut freed = 0;
        for (_, number, held) in others {
            if freed >= bytes {
                break;
            }
            if let Some(body) = self.under_way.remove(&number) {
                body.given_up.notify_one();
            }
            // It lets go of them as soon as its task runs.
            self.used -= held;
            freed += held;
        }
        true
    }
}

/// A body that is being received.
struct Upload {
    memory: Arc<UploadMemory>,
    number: u64,
    given_up: Arc<Notify>,
}

/// What a whole body holds, until its guest has it.
struct Held {
    memory: Arc<UploadMemory>,
    bytes: u64,
}

impl Upload {
    fn begin(memory: &Arc<UploadMemory>) -> Self {
        let given_up = Arc::new(Notify::new());
        let mut ledger = memory.ledger();
        ledger.count += 1;
        let number = ledger.count;
        let body =
            UnderWay { held: 0, progressed: Instant::now(), given_up: Arc::clone(&given_up) };
        ledger.under_way.insert(number, body);
        drop(ledger);
        Self { memory: Arc::clone(memory), number, given_up }
    }

    /// Takes room for more bytes, where need be that of others.
    fn more(&self, bytes: u64) -> Result<(), Fault> {
        let full = || Fault::UploadMemory { limit: self.memory.most };
        let mut ledger = self.memory.ledger();
        let missing = (ledger.used + bytes).saturating_sub(self.memory.most);
        if missing > 0 && !ledger.make_room(self.number, missing) {
            return Err(full());
        }
        let body = ledger.under_way.get_mut(&self.number).ok_or_else(full)?;
        body.held += bytes;
        body.progressed = Instant::now();
        ledger.used += bytes;
        Ok(())
    }

    /// The body is whole: it can no longer be given up.
    fn done(self) -> Held {
        let body = self.memory.ledger().under_way.remove(&self.number);
        Held { memory: Arc::clone(&self.memory), bytes: body.map_or(0, |body| body.held) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let mut ledger = self.memory.ledger();
        if let Some(body) = ledger.under_way.remove(&self.number) {
            ledger.used -= body.held;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.ledger().used -= self.bytes;
    }
}

/// Receives a body up to its end, or up to [`Limits::body_buffer`]: what is beyond that streams to
/// the guest as it comes.
///
/// # Errors
/// The limit that the body broke, or that its client broke off.
pub async fn receive(
    body: LimitedBody,
    limits: &Limits,
    memory: &Arc<UploadMemory>,
) -> Result<WasiBody, Fault> {
    if body.is_end_stream() {
        return Ok(body.boxed_unsync());
    }
    let received = tokio::time::timeout(limits.body_time, collect(body, limits, memory));
    match received.await {
        Ok(received) => Ok(received?.boxed_unsync()),
        Err(_) => Err(Fault::BodyTime { limit: limits.body_time }),
    }
}

async fn collect(
    mut body: LimitedBody,
    limits: &Limits,
    memory: &Arc<UploadMemory>,
) -> Result<ReceivedBody, Fault> {
    let upload = Upload::begin(memory);
    let mut blocks = Blocks::default();
    let mut trailers = None;
    while limits.body_buffer > 0 && blocks.length <= limits.body_buffer {
        let frame = tokio::select! {
            biased;
            () = upload.given_up.notified() => {
                return Err(Fault::UploadMemory { limit: memory.most });
            }
            frame = body.frame() => frame,
        };
        let frame = match frame {
            None => return Ok(ReceivedBody::of(blocks, trailers, None, upload)),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let broken =
                    || Fault::BadRequest { reason: format!("the body broke off: {error}") };
                return Err(body.breach().unwrap_or_else(broken));
            }
        };
        match frame.into_data() {
            Ok(data) => blocks.add(&data, |bytes| upload.more(bytes))?,
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(ReceivedBody::of(blocks, None, Some(body), upload))
}

/// Bytes in blocks of a fair size: copied, since a small piece would keep the whole buffer of its
/// connection, and never moved again.
#[derive(Default)]
struct Blocks {
    full: VecDeque<Bytes>,
    last: BytesMut,
    length: u64,
}

const BLOCK: usize = 64 << 10;

impl Blocks {
    /// Adds bytes; `more` is asked for each block before it is made.
    fn add(
        &mut self,
        mut data: &[u8],
        more: impl Fn(u64) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.length += data.len() as u64;
        while !data.is_empty() {
            let room = self.last.capacity() - self.last.len();
            if room == 0 {
                // Small bodies have small blocks.
                let size = data.len().max(self.last.len() * 2).clamp(1 << 10, BLOCK);
                more(size as u64)?;
                let last = std::mem::replace(&mut self.last, BytesMut::with_capacity(size));
                self.full.push_back(last.freeze());
                continue;
            }
            let (now, later) = data.split_at(room.min(data.len()));
            self.last.extend_from_slice(now);
            data = later;
        }
        Ok(())
    }

    fn into_queue(mut self) -> VecDeque<Bytes> {
        self.full.push_back(self.last.freeze());
        self.full.retain(|block| !block.is_empty());
        self.full
    }
}

/// A body of which the beginning, or all, is there.
struct ReceivedBody {
    beginning: VecDeque<Bytes>,
    rest: Option<LimitedBody>,
    trailers: Option<HeaderMap>,
    _held: Held,
}

impl ReceivedBody {
    fn of(
        blocks: Blocks,
        trailers: Option<HeaderMap>,
        rest: Option<LimitedBody>,
        upload: Upload,
    ) -> Self {
        Self { beginning: blocks.into_queue(), rest, trailers, _held: upload.done() }
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Step {
        if let Some(bytes) = self.beginning.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(rest) = &mut self.rest {
            return Pin::new(rest).poll_frame(context);
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.rest.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            None => {
                SizeHint::with_exact(self.beginning.iter().map(|bytes| bytes.len() as u64).sum())
            }
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Blocks, Upload, UploadMemory, receive};
    use crate::runtime::Limits;
    use crate::server::body::{Breach, LimitedBody};
    use crate::server::fault::{Fault, full};
    use http_body_util::BodyExt;

    const MOST: u64 = 100 << 10;

    fn limits() -> Limits {
        Limits { upload_memory: MOST, ..Limits::default() }
    }

    fn body(bytes: usize) -> LimitedBody {
        LimitedBody::new(full(vec![7; bytes]), &limits(), Breach::default())
    }

    #[tokio::test]
    async fn bodies_share_one_memory_and_give_it_back() {
        let memory = UploadMemory::new(&limits());
        let first = receive(body(60 << 10), &limits(), &memory).await.unwrap();
        // Nobody stalls: the first is whole, and only waits for its guest.
        let second = receive(body(60 << 10), &limits(), &memory).await;
        assert_eq!(second.err(), Some(Fault::UploadMemory { limit: MOST }));
        assert_eq!(memory.ledger().used, 60 << 10);
        assert_eq!(first.collect().await.unwrap().to_bytes(), vec![7; 60 << 10]);
        assert_eq!(memory.ledger().used, 0);
        assert!(receive(body(60 << 10), &limits(), &memory).await.is_ok());
    }

    #[test]
    fn those_that_stall_for_the_longest_make_room_and_only_where_that_does() {
        let memory = UploadMemory::new(&limits());
        let uploads: Vec<_> = (0..4).map(|_| Upload::begin(&memory)).collect();
        for (upload, bytes) in uploads.iter().zip([1, 40 << 10, 59 << 10]) {
            upload.more(bytes).unwrap();
        }
        uploads[0].more(1).unwrap();
        // More than all the others hold: none of them is given up.
        assert!(uploads[3].more(MOST + 1).is_err());
        assert_eq!(memory.ledger().under_way.len(), 4);
        // The second has waited for the longest.
        uploads[3].more(30 << 10).unwrap();
        let left: Vec<u64> = memory.ledger().under_way.keys().copied().collect();
        assert_eq!(left, [1, 3, 4]);
        assert!(uploads[1].more(1).is_err());
        drop(uploads);
        assert_eq!(memory.ledger().used, 0);
    }

    #[tokio::test]
    async fn what_is_beyond_the_buffer_streams() {
        let limits = Limits { body_buffer: 0, ..Limits::default() };
        let memory = UploadMemory::new(&limits);
        let body = LimitedBody::new(full("a body"), &limits, Breach::default());
        let received = receive(body, &limits, &memory).await.unwrap();
        assert_eq!(memory.ledger().used, 0);
        assert_eq!(received.collect().await.unwrap().to_bytes(), "a body");
    }

    #[test]
    fn blocks_hold_what_they_are_given_and_little_more() {
        let mut blocks = Blocks::default();
        let asked = std::cell::Cell::new(0);
        let bytes: Vec<u8> = (0..200_000_u32).map(|index| (index % 251) as u8).collect();
        for piece in bytes.chunks(7) {
            let more = |bytes| {
                asked.set(asked.get() + bytes);
                Ok(())
            };
            blocks.add(piece, more).unwrap();
        }
        assert_eq!(blocks.length, 200_000);
        assert!(asked.get() < 200_000 + (64 << 10), "{}", asked.get());
        assert_eq!(blocks.into_queue().into_iter().flatten().collect::<Vec<u8>>(), bytes);
    }
}
