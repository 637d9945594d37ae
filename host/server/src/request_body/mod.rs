//! Receives a request's body before an instance starts, so that a slow client does not occupy one. If the body takes
//! longer than the time for that and enough capacity is free, the instance starts, and the rest streams to it. All
//! bodies share a limited amount of memory.

pub(crate) mod limits;
pub(crate) mod memory;
mod segmented_buf;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::deadline::Deadline;
use crate::inspected_body::PolledFrame;
use crate::instance::admission::EarlyPermit;
use crate::instance::permit::Permit;
use crate::reply::host_error::HostError;
use limits::LimitedBody;
use memory::{Upload, UploadMemory, UploadPermit};
use segmented_buf::SegmentedBuf;
use spotter_config::Limits;

/// A body that a guest may read, and the permit of the guest, if it has one already.
pub(crate) struct Received {
    pub body: WasiBody,
    pub permit: Option<Permit>,
}

/// Receives a body up to [`Limits::body_buffer`], or until `start_early` starts the guest, which is tried every
/// [`Limits::body_wait`]. The rest streams to the guest as it arrives, and extends the request's deadline until
/// [`Limits::body_timeout`] is over.
///
/// # Errors
/// If the body exceeds a limit, or its client disconnects.
pub(crate) async fn receive(
    body: LimitedBody,
    limits: &Limits,
    memory: &Arc<UploadMemory>,
    deadline: &Arc<Deadline>,
    start_early: impl Fn() -> Option<EarlyPermit>,
) -> Result<Received, HostError> {
    if body.is_end_stream() {
        let body = ReceivedBody::empty(memory.hold_header()?);
        return Ok(Received { body: body.boxed_unsync(), permit: None });
    }
    let end = Instant::now() + limits.body_timeout;
    let received = collect(body, limits, memory, start_early);
    let received = tokio::time::timeout_at(end, received).await;
    let (mut body, permit) =
        received.map_err(|_| HostError::BodyTimeout { limit: limits.body_timeout })??;
    body.deadline = Some((Arc::clone(deadline), end));
    Ok(Received { body: body.boxed_unsync(), permit })
}

async fn collect(
    mut body: LimitedBody,
    limits: &Limits,
    memory: &Arc<UploadMemory>,
    start_early: impl Fn() -> Option<EarlyPermit>,
) -> Result<(ReceivedBody, Option<Permit>), HostError> {
    let upload = Upload::begin(memory);
    let mut wait = tokio::time::interval_at(Instant::now() + limits.body_wait, limits.body_wait);
    let mut blocks = SegmentedBuf::default();
    let mut trailers = None;
    while limits.body_buffer > 0 && blocks.length() <= limits.body_buffer {
        let frame = tokio::select! {
            biased;
            error = upload.evicted() => return Err(error),
            frame = body.frame() => frame,
            _ = wait.tick() => match start_early() {
                Some(EarlyPermit { permit, until_body_end }) => {
                    let mut body = ReceivedBody::new(blocks, None, Some(body), upload)?;
                    body.until_body_end = Some(until_body_end);
                    return Ok((body, Some(permit)));
                }
                None => continue,
            },
        };
        let frame = match frame {
            None => return Ok((ReceivedBody::new(blocks, trailers, None, upload)?, None)),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let aborted =
                    || HostError::BadRequest { reason: format!("the body is incomplete: {error}") };
                return Err(body.exceeded().unwrap_or_else(aborted));
            }
        };
        match frame.into_data() {
            Ok(data) => blocks.add(&data, |bytes| upload.reserve(bytes))?,
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((ReceivedBody::new(blocks, None, Some(body), upload)?, None))
}

/// A body whose beginning, or all of it, is in memory.
struct ReceivedBody {
    beginning: VecDeque<Bytes>,
    rest: Option<LimitedBody>,
    trailers: Option<HeaderMap>,
    memory: UploadPermit,
    /// Held until the end, if the guest started before it.
    until_body_end: Option<OwnedSemaphorePermit>,
    /// The request's deadline, which the rest extends up to this time.
    deadline: Option<(Arc<Deadline>, Instant)>,
}

impl ReceivedBody {
    /// No body, and the memory of its request's header.
    fn empty(memory: UploadPermit) -> Self {
        let beginning = VecDeque::new();
        Self { beginning, rest: None, trailers: None, memory, until_body_end: None, deadline: None }
    }

    fn new(
        blocks: SegmentedBuf,
        trailers: Option<HeaderMap>,
        rest: Option<LimitedBody>,
        upload: Upload,
    ) -> Result<Self, HostError> {
        let (beginning, memory) = (blocks.into_queue(), upload.complete()?);
        Ok(Self { beginning, rest, trailers, memory, until_body_end: None, deadline: None })
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        if let Some(bytes) = self.beginning.pop_front() {
            if self.rest.is_some() {
                // The guest reads while the body arrives, maybe for long.
                self.memory.release(bytes.len() as u64);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Self { rest, until_body_end, deadline, .. } = &mut *self;
        if let Some(rest) = rest {
            let polled = Pin::new(&mut *rest).poll_frame(context);
            if matches!(polled, Poll::Ready(None)) || rest.is_end_stream() {
                *until_body_end = None;
            }
            if let (Poll::Ready(Some(Ok(_))), Some((deadline, end))) = (&polled, deadline)
                && Instant::now() < *end
            {
                deadline.extend();
            }
            return polled;
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
    use super::limits::{ExceededLimit, LimitedBody};
    use super::{Arc, Deadline, Frame, UploadMemory, WasiBody, receive};
    use crate::reply::full;
    use crate::reply::host_error::HostError;
    use http_body_util::BodyExt;
    use spotter_config::Limits;
    use std::time::Duration;

    const UPLOAD_MEMORY_BYTES: u64 = 100 << 10;

    fn limits() -> Limits {
        Limits { upload_memory: UPLOAD_MEMORY_BYTES, ..Limits::default() }
    }

    fn body(bytes: usize) -> LimitedBody {
        LimitedBody::new(full(vec![7; bytes]), &limits(), ExceededLimit::default())
    }

    async fn receive_whole(
        body: LimitedBody,
        memory: &Arc<UploadMemory>,
    ) -> Result<WasiBody, HostError> {
        let deadline = Arc::new(Deadline::new(limits().request_timeout));
        Ok(receive(body, &limits(), memory, &deadline, || None).await?.body)
    }

    #[tokio::test]
    async fn bodies_share_one_memory_and_give_it_back() {
        let memory = UploadMemory::new(&limits());
        let first = receive_whole(body(60 << 10), &memory).await.unwrap();
        // The first body is complete and only waits for its guest, so it is not evicted.
        let second = receive_whole(body(60 << 10), &memory).await;
        assert_eq!(second.err(), Some(HostError::UploadMemory { limit: UPLOAD_MEMORY_BYTES }));
        assert_eq!(first.collect().await.unwrap().to_bytes(), vec![7; 60 << 10]);
        assert!(receive_whole(body(60 << 10), &memory).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_beyond_the_buffer_streams() {
        let limits = Limits { body_buffer: 0, ..Limits::default() };
        let memory = UploadMemory::new(&limits);
        let body = LimitedBody::new(full("a body"), &limits, ExceededLimit::default());
        let deadline = Arc::new(Deadline::new(limits.request_timeout));
        let received = receive(body, &limits, &memory, &deadline, || None).await.unwrap();
        assert_eq!(received.body.collect().await.unwrap().to_bytes(), "a body");
    }

    #[tokio::test]
    async fn what_streams_extends_the_deadline_until_the_time_for_the_body_is_over() {
        const REQUEST: Duration = Duration::from_millis(300);
        for (body_timeout, is_extended) in [(REQUEST * 10, true), (REQUEST / 2, false)] {
            let limits = Limits {
                body_buffer: 0,
                request_timeout: REQUEST,
                body_timeout,
                ..Limits::default()
            };
            let memory = UploadMemory::new(&limits);
            let chunks = futures_util::stream::unfold(0, |sent| async move {
                tokio::time::sleep(REQUEST / 4).await;
                (sent < 8).then(|| (Ok(Frame::data("a chunk".into())), sent + 1))
            });
            let body = http_body_util::StreamBody::new(chunks).boxed_unsync();
            let body = LimitedBody::new(body, &limits, ExceededLimit::default());
            let deadline = Arc::new(Deadline::new(REQUEST));
            let received = receive(body, &limits, &memory, &deadline, || None).await.unwrap();
            tokio::select! {
                body = received.body.collect() => {
                    assert_eq!(body.unwrap().to_bytes(), "a chunk".repeat(8));
                    assert!(is_extended, "{body_timeout:?}");
                }
                () = deadline.passed() => assert!(!is_extended, "{body_timeout:?}"),
            }
        }
    }
}
