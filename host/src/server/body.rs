//! A request's body under its limits: no more than so many bytes, and no pause longer than so long.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::fault::Fault;
use crate::runtime::Limits;

/// Where a body says that it broke a limit, for whoever answers the request.
pub type Breach = Arc<OnceLock<Fault>>;

/// A body that ends with an error at the first breach of a limit.
pub struct LimitedBody {
    body: WasiBody,
    remaining: u64,
    limits: Limits,
    /// Set while waiting for the next bytes.
    pause: Option<Pin<Box<Sleep>>>,
    breach: Breach,
}

impl LimitedBody {
    /// Wraps a body.
    pub fn new(body: WasiBody, limits: &Limits, breach: Breach) -> Self {
        Self { body, remaining: limits.body_size, limits: *limits, pause: None, breach }
    }

    /// The limit that was broken, if one was.
    pub fn breach(&self) -> Option<Fault> {
        self.breach.get().cloned()
    }

    fn break_off(&self, fault: Fault) -> Error {
        let error = Error::InternalError(Some(fault.code().to_owned()));
        // The first breach is the one that counts.
        let _ = self.breach.set(fault);
        error
    }

    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<Duration> {
        let idle = self.limits.body_idle;
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        pause.as_mut().poll(context).map(|()| idle)
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let waited = ready!(self.poll_pause(context));
            return Poll::Ready(Some(Err(self.break_off(Fault::BodyIdle { waited }))));
        };
        self.pause = None;
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        match self.remaining.checked_sub(length) {
            Some(remaining) => self.remaining = remaining,
            None => {
                let fault = Fault::BodyTooLarge { limit: self.limits.body_size };
                return Poll::Ready(Some(Err(self.break_off(fault))));
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

/// Refuses a body whose header says that it is too large, before anything is spent on it.
///
/// # Errors
/// [`Fault::BodyTooLarge`].
pub fn check_length(headers: &HeaderMap, limits: &Limits) -> Result<(), Fault> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > limits.body_size => {
            Err(Fault::BodyTooLarge { limit: limits.body_size })
        }
        _ => Ok(()),
    }
}
