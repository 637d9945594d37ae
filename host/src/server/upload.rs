//! A request's body, received before an instance is made for it: a slow client holds up nobody but
//! itself. What is held for all of them together is bounded.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{LimitedBody, Step};
use super::fault::Fault;
use crate::runtime::Limits;

/// How many bytes of bodies may be held at once.
pub struct UploadMemory {
    used: AtomicU64,
    most: u64,
}

impl UploadMemory {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), most: limits.upload_memory })
    }
}

/// Bytes held by one request, given back when dropped.
struct Held {
    memory: Arc<UploadMemory>,
    bytes: u64,
}

impl Held {
    fn more(&mut self, bytes: u64) -> Result<(), Fault> {
        let before = self.memory.used.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if before + bytes > self.memory.most {
            return Err(Fault::UploadMemory { limit: self.memory.most });
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
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
    let mut held = Held { memory: Arc::clone(memory), bytes: 0 };
    let mut bytes = BytesMut::new();
    let mut trailers = None;
    while limits.body_buffer > 0 && bytes.len() as u64 <= limits.body_buffer {
        let frame = match body.frame().await {
            None => return Ok(ReceivedBody::whole(bytes.freeze(), trailers, held)),
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
                held.more(data.len() as u64)?;
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(ReceivedBody { rest: Some(body), ..ReceivedBody::whole(bytes.freeze(), None, held) })
}

/// A body of which the beginning, or all, is there.
struct ReceivedBody {
    beginning: Option<Bytes>,
    rest: Option<LimitedBody>,
    trailers: Option<HeaderMap>,
    _held: Held,
}

impl ReceivedBody {
    fn whole(bytes: Bytes, trailers: Option<HeaderMap>, held: Held) -> Self {
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
    use http_body_util::BodyExt;
    use std::sync::atomic::Ordering;

    #[tokio::test]
    async fn bodies_share_one_memory_and_give_it_back() {
        let limits = Limits { upload_memory: 100, ..Limits::default() };
        let memory = UploadMemory::new(&limits);
        let body =
            |bytes: usize| LimitedBody::new(full(vec![7; bytes]), &limits, Breach::default());
        let first = receive(body(60), &limits, &memory).await.unwrap();
        let second = receive(body(60), &limits, &memory).await;
        assert_eq!(second.err(), Some(Fault::UploadMemory { limit: 100 }));
        assert_eq!(memory.used.load(Ordering::Relaxed), 60);
        assert_eq!(first.collect().await.unwrap().to_bytes(), vec![7; 60]);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        assert!(receive(body(60), &limits, &memory).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_beyond_the_buffer_streams() {
        let limits = Limits { body_buffer: 0, ..Limits::default() };
        let memory = UploadMemory::new(&limits);
        let body = LimitedBody::new(full("a body"), &limits, Breach::default());
        let received = receive(body, &limits, &memory).await.unwrap();
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        assert_eq!(received.collect().await.unwrap().to_bytes(), "a body");
    }
}
