//! Bodies that are looked at as they pass: a request's under its limits (no more than so many bytes, no
//! pause longer than so long), and any that somebody follows.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::fault::Fault;
use crate::runtime::Limits;

/// Where a body says that it broke a limit, for whoever answers the request.
pub type ExceededLimit = Arc<OnceLock<Fault>>;

/// A body that ends with an error at the first breach of a limit.
pub struct LimitedBody {
    body: WasiBody,
    remaining: u64,
    limits: Limits,
    /// Set while waiting for the next bytes.
    pause: Option<Pin<Box<Sleep>>>,
    exceeded: ExceededLimit,
}

impl LimitedBody {
    /// Wraps a body.
    pub fn new(body: WasiBody, limits: &Limits, exceeded: ExceededLimit) -> Self {
        Self { body, remaining: limits.body_size, limits: *limits, pause: None, exceeded }
    }

    /// The limit that was broken, if one was.
    pub fn exceeded(&self) -> Option<Fault> {
        self.exceeded.get().cloned()
    }

    fn fail(&self, fault: Fault) -> Error {
        let error = Error::InternalError(Some(fault.code().to_owned()));
        // The first breach is the one that counts.
        let _ = self.exceeded.set(fault);
        error
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
            return Poll::Ready(Some(Err(self.fail(Fault::BodyIdleTimeout { waited }))));
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
                return Poll::Ready(Some(Err(self.fail(fault))));
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

/// One step of a body as it is polled.
pub type PolledFrame = Poll<Option<Result<Frame<Bytes>, Error>>>;

/// Whether a body has given all it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    Streaming,
    Ended,
}

/// A body that shows each step to `watch`, and gives on what that makes of it.
pub struct WatchedBody<F> {
    body: WasiBody,
    watch: F,
}

impl<F: FnMut(PolledFrame, BodyState) -> PolledFrame + Send + Unpin + 'static> WatchedBody<F> {
    /// Wraps a body.
    pub fn wrap(body: WasiBody, watch: F) -> WasiBody {
        Self { body, watch }.boxed_unsync()
    }
}

impl<F: FnMut(PolledFrame, BodyState) -> PolledFrame + Unpin> Body for WatchedBody<F> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        let step = Pin::new(&mut self.body).poll_frame(context);
        let is_end = matches!(step, Poll::Ready(None)) || self.body.is_end_stream();
        (self.watch)(step, if is_end { BodyState::Ended } else { BodyState::Streaming })
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
