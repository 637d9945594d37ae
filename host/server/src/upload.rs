//! Receives a request's body before an instance starts, so that a slow client does not occupy one. All bodies
//! share a limited amount of memory.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::blocks::Blocks;
use super::body::{LimitedBody, PolledFrame};
use super::fault::Fault;
use super::upload_memory::{Upload, UploadMemory, UploadPermit};
use spotter_config::Limits;

/// Receives a body up to [`Limits::body_buffer`]. The rest streams to the guest as it arrives.
///
/// # Errors
/// If the body exceeds a limit, or its client disconnects.
pub async fn receive(
    body: LimitedBody,
    limits: &Limits,
    memory: &Arc<UploadMemory>,
) -> Result<WasiBody, Fault> {
    if body.is_end_stream() {
        return Ok(body.boxed_unsync());
    }
    let received = tokio::time::timeout(limits.body_timeout, collect(body, limits, memory));
    match received.await {
        Ok(received) => Ok(received?.boxed_unsync()),
        Err(_) => Err(Fault::BodyTimeout { limit: limits.body_timeout }),
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
    while limits.body_buffer > 0 && blocks.length() <= limits.body_buffer {
        let frame = tokio::select! {
            biased;
            fault = upload.evicted() => return Err(fault),
            frame = body.frame() => frame,
        };
        let frame = match frame {
            None => return Ok(ReceivedBody::of(blocks, trailers, None, upload)),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let aborted =
                    || Fault::BadRequest { reason: format!("the body is incomplete: {error}") };
                return Err(body.exceeded().unwrap_or_else(aborted));
            }
        };
        match frame.into_data() {
            Ok(data) => blocks.add(&data, |bytes| upload.reserve(bytes))?,
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(ReceivedBody::of(blocks, None, Some(body), upload))
}

/// A body whose beginning, or all of it, is in memory.
struct ReceivedBody {
    beginning: VecDeque<Bytes>,
    rest: Option<LimitedBody>,
    trailers: Option<HeaderMap>,
    _permit: UploadPermit,
}

impl ReceivedBody {
    fn of(
        blocks: Blocks,
        trailers: Option<HeaderMap>,
        rest: Option<LimitedBody>,
        upload: Upload,
    ) -> Self {
        Self { beginning: blocks.into_queue(), rest, trailers, _permit: upload.complete() }
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
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
    use super::{UploadMemory, receive};
    use crate::body::{ExceededLimit, LimitedBody};
    use crate::fault::{Fault, full};
    use http_body_util::BodyExt;
    use spotter_config::Limits;

    const UPLOAD_MEMORY_BYTES: u64 = 100 << 10;

    fn limits() -> Limits {
        Limits { upload_memory: UPLOAD_MEMORY_BYTES, ..Limits::default() }
    }

    fn body(bytes: usize) -> LimitedBody {
        LimitedBody::new(full(vec![7; bytes]), &limits(), ExceededLimit::default())
    }

    #[tokio::test]
    async fn bodies_share_one_memory_and_give_it_back() {
        let memory = UploadMemory::new(&limits());
        let first = receive(body(60 << 10), &limits(), &memory).await.unwrap();
        // The first body is complete and only waits for its guest, so it is not evicted.
        let second = receive(body(60 << 10), &limits(), &memory).await;
        assert_eq!(second.err(), Some(Fault::UploadMemory { limit: UPLOAD_MEMORY_BYTES }));
        assert_eq!(first.collect().await.unwrap().to_bytes(), vec![7; 60 << 10]);
        assert!(receive(body(60 << 10), &limits(), &memory).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_beyond_the_buffer_streams() {
        let limits = Limits { body_buffer: 0, ..Limits::default() };
        let memory = UploadMemory::new(&limits);
        let body = LimitedBody::new(full("a body"), &limits, ExceededLimit::default());
        let received = receive(body, &limits, &memory).await.unwrap();
        assert_eq!(received.collect().await.unwrap().to_bytes(), "a body");
    }
}
