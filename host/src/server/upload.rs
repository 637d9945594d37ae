//! A request's body, received before an instance is made for it: a slow client holds up nobody but
//! itself. What is held for all of them together is bounded.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{LimitedBody, Step};
use super::fault::Fault;
use crate::runtime::Limits;

/// How many bytes of bodies may be held at once. Where they are all taken, the body that has been under
/// way for the longest is given up for the others: whoever stalls pays for it.
pub struct UploadMemory {
    free: Arc<Semaphore>,
    most: u64,
    under_way: Mutex<BTreeMap<u64, Arc<Notify>>>,
    count: AtomicU64,
}

impl UploadMemory {
    pub fn new(limits: &Limits) -> Arc<Self> {
        let most = limits.upload_memory;
        let bytes = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            free: Arc::new(Semaphore::new(bytes)),
            most,
            under_way: Mutex::default(),
            count: AtomicU64::new(0),
        })
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that is being received; the bytes it holds go back when it is dropped.
struct Upload {
    memory: Arc<UploadMemory>,
    /// Its place in the order of arrival.
    number: u64,
    given_up: Arc<Notify>,
    held: Option<OwnedSemaphorePermit>,
}

impl Upload {
    fn begin(memory: &Arc<UploadMemory>) -> Self {
        let number = memory.count.fetch_add(1, Ordering::Relaxed);
        let given_up = Arc::new(Notify::new());
        memory.under_way().insert(number, Arc::clone(&given_up));
        Self { memory: Arc::clone(memory), number, given_up, held: None }
    }

    /// Takes room for more bytes, where need be that of the oldest body under way.
    async fn more(&mut self, bytes: usize) -> Result<(), Fault> {
        let full = || Fault::UploadMemory { limit: self.memory.most };
        let bytes = u32::try_from(bytes).map_err(|_| full())?;
        let free = || Arc::clone(&self.memory.free);
        let permit = match free().try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                let oldest = self.memory.under_way().pop_first();
                match oldest {
                    Some((number, given_up)) if number != self.number => given_up.notify_one(),
                    _ => return Err(full()),
                }
                // What it held is free as soon as its task has run.
                let permit = tokio::time::timeout(SOON, free().acquire_many_owned(bytes)).await;
                permit.ok().and_then(Result::ok).ok_or_else(full)?
            }
        };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }

    /// The room that a received body holds; it is no longer under way.
    fn done(mut self) -> Option<OwnedSemaphorePermit> {
        self.held.take()
    }
}

/// How long a body waits for the room of one that was given up.
const SOON: Duration = Duration::from_secs(1);

impl Drop for Upload {
    fn drop(&mut self) {
        self.memory.under_way().remove(&self.number);
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
    let mut upload = Upload::begin(memory);
    let given_up = Arc::clone(&upload.given_up);
    let mut bytes = BytesMut::new();
    let mut trailers = None;
    while limits.body_buffer > 0 && bytes.len() as u64 <= limits.body_buffer {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = given_up.notified() => return Err(Fault::UploadMemory { limit: memory.most }),
        };
        let frame = match frame {
            None => return Ok(ReceivedBody::whole(bytes.freeze(), trailers, upload.done())),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let broken =
                    || Fault::BadRequest { reason: format!("the body broke off: {error}") };
                return Err(body.breach().unwrap_or_else(broken));
            }
        };
        match frame.into_data() {
            // Copied, since a small piece would keep the whole buffer of its connection.
            Ok(data) => {
                upload.more(data.len()).await?;
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(ReceivedBody {
        rest: Some(body),
        ..ReceivedBody::whole(bytes.freeze(), None, upload.done())
    })
}

/// A body of which the beginning, or all, is there.
struct ReceivedBody {
    beginning: Option<Bytes>,
    rest: Option<LimitedBody>,
    trailers: Option<HeaderMap>,
    _held: Option<OwnedSemaphorePermit>,
}

impl ReceivedBody {
    fn whole(
        bytes: Bytes,
        trailers: Option<HeaderMap>,
        held: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let beginning = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { beginning, rest: None, trailers, _held: held }
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Step {
        if let Some(bytes) = self.beginning.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(rest) = &mut self.rest {
            return Pin::new(rest).poll_frame(context);
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_none() && self.rest.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let there = self.beginning.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match &self.rest {
            None => SizeHint::with_exact(there),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{UploadMemory, receive};
    use crate::runtime::Limits;
    use crate::server::body::{Breach, LimitedBody};
    use crate::server::fault::{Fault, full};
    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use std::sync::Arc;

    fn limits() -> Limits {
        Limits { upload_memory: 100, ..Limits::default() }
    }

    fn body(bytes: usize) -> LimitedBody {
        LimitedBody::new(full(vec![7; bytes]), &limits(), Breach::default())
    }

    #[tokio::test]
    async fn bodies_share_one_memory_and_give_it_back() {
        let memory = UploadMemory::new(&limits());
        let first = receive(body(60), &limits(), &memory).await.unwrap();
        // Nobody stalls: the first is whole, and only waits for its guest.
        let second = receive(body(60), &limits(), &memory).await;
        assert_eq!(second.err(), Some(Fault::UploadMemory { limit: 100 }));
        assert_eq!(memory.free.available_permits(), 40);
        assert_eq!(first.collect().await.unwrap().to_bytes(), vec![7; 60]);
        assert_eq!(memory.free.available_permits(), 100);
        assert!(receive(body(60), &limits(), &memory).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_stalls_makes_room_for_one_that_does_not() {
        let memory = UploadMemory::new(&limits());
        let (pieces, stalls) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        pieces.send(Bytes::from(vec![7; 60])).unwrap();
        let stream = futures_util::stream::unfold(stalls, async |mut stalls| {
            let piece = stalls.recv().await?;
            Some((Ok(Frame::data(piece)), stalls))
        });
        let stalling =
            LimitedBody::new(StreamBody::new(stream).boxed_unsync(), &limits(), Breach::default());
        let shared = Arc::clone(&memory);
        let stalled = tokio::spawn(async move { receive(stalling, &limits(), &shared).await });
        while memory.free.available_permits() == 100 {
            tokio::task::yield_now().await;
        }
        assert!(receive(body(60), &limits(), &memory).await.is_ok());
        let given_up = stalled.await.unwrap();
        assert_eq!(given_up.err(), Some(Fault::UploadMemory { limit: 100 }));
        assert_eq!(memory.free.available_permits(), 100);
        drop(pieces);
    }

    #[tokio::test]
    async fn what_is_beyond_the_buffer_streams() {
        let limits = Limits { body_buffer: 0, ..Limits::default() };
        let memory = UploadMemory::new(&limits);
        let before = memory.free.available_permits();
        let body = LimitedBody::new(full("a body"), &limits, Breach::default());
        let received = receive(body, &limits, &memory).await.unwrap();
        assert_eq!(memory.free.available_permits(), before);
        assert_eq!(received.collect().await.unwrap().to_bytes(), "a body");
    }
}
