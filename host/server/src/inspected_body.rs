//! A body that shows each frame to a callback.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

/// The result of [`Body::poll_frame`].
pub(crate) type PolledFrame = Poll<Option<Result<Frame<Bytes>, Error>>>;

/// Whether a body has more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyState {
    Streaming,
    Ended,
}

/// A body that passes each polled frame through `watch`.
pub(crate) struct InspectedBody<F> {
    body: WasiBody,
    watch: F,
}

impl<F: FnMut(PolledFrame, BodyState) -> PolledFrame + Send + Unpin + 'static> InspectedBody<F> {
    /// Wraps a body.
    pub(crate) fn wrap(body: WasiBody, watch: F) -> WasiBody {
        Self { body, watch }.boxed_unsync()
    }
}

impl<F: FnMut(PolledFrame, BodyState) -> PolledFrame + Unpin> Body for InspectedBody<F> {
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
