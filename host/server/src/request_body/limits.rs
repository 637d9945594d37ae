//! Limits on a request's body: its size, and the pauses in it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use hyper::body::{Body, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::inspected_body::PolledFrame;
use crate::reply::host_error::HostError;
use spotter_config::Limits;

/// Set by a body that exceeded a limit, read by the code that replies to the request.
pub(crate) type ExceededLimit = Arc<OnceLock<HostError>>;

/// A body that fails as soon as it exceeds a limit.
pub(crate) struct LimitedBody {
    body: WasiBody,
    remaining: u64,
    limits: Limits,
    /// Set while waiting for the next frame.
    pause: Option<Pin<Box<Sleep>>>,
    exceeded: ExceededLimit,
}

impl LimitedBody {
    /// Wraps a body.
    pub(crate) fn new(body: WasiBody, limits: &Limits, exceeded: ExceededLimit) -> Self {
        Self { body, remaining: limits.body_size, limits: *limits, pause: None, exceeded }
    }

    /// The error of the limit that was exceeded, if any.
    pub(crate) fn exceeded(&self) -> Option<HostError> {
        self.exceeded.get().cloned()
    }

    fn fail(&self, error: HostError) -> Error {
        let body_error = Error::InternalError(Some(error.code().to_owned()));
        // Keep the first error.
        let _ = self.exceeded.set(error);
        body_error
    }

    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<Duration> {
        let idle = self.limits.body_idle_timeout;
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        pause.as_mut().poll(context).map(|()| idle)
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let waited = ready!(self.poll_pause(context));
            return Poll::Ready(Some(Err(self.fail(HostError::BodyIdleTimeout { waited }))));
        };
        self.pause = None;
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        match self.remaining.checked_sub(length) {
            Some(remaining) => self.remaining = remaining,
            None => {
                let error = HostError::BodyTooLarge { limit: self.limits.body_size };
                return Poll::Ready(Some(Err(self.fail(error))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Rejects a body whose `Content-Length` is too large, before reading any of it.
///
/// # Errors
/// [`HostError::BodyTooLarge`].
pub(crate) fn check_length(headers: &HeaderMap, limits: &Limits) -> Result<(), HostError> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > limits.body_size => {
            Err(HostError::BodyTooLarge { limit: limits.body_size })
        }
        _ => Ok(()),
    }
}
