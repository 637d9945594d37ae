//! Errors that the host reports to clients: a stable code, an HTTP status, and a JSON body of the same shape
//! as the detector's errors.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use wasmtime_wasi_http::WasiBody;

use super::full;

/// The reason why a request got no reply from a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostError {
    /// No route matches.
    NoRoute { path: String },
    /// The request is malformed.
    BadRequest { reason: String },
    /// The header was not complete in time.
    HeaderTimeout { limit: Duration },
    /// The body is larger than [`Limits::body_size`](spotter_config::Limits::body_size).
    BodyTooLarge { limit: u64 },
    /// The client paused too long while sending the body.
    BodyIdleTimeout { waited: Duration },
    /// The client took too long to send the whole body.
    BodyTimeout { limit: Duration },
    /// The bodies of all requests together exceed the memory limit.
    UploadMemory { limit: u64 },
    /// The component cannot be instantiated, or there is no component of this name.
    NotLoaded,
    /// No instance may start, and the queue is full.
    QueueFull { length: usize },
    /// No instance became free for as long as a request may wait.
    QueueTimeout { waited: Duration },
    /// The guest exceeded its limit on CPU time.
    CpuLimit { limit: Duration },
    /// The reply did not begin in time after the start of its instance, or did not go on in time.
    RequestTimeout { limit: Duration },
    /// The guest failed after it was refused memory beyond its limit.
    MemoryLimit { limit: u64 },
    /// The guest failed because it had too many resource handles.
    HandleLimit { limit: usize },
    /// The guest trapped, for example because it panicked.
    Trap,
    /// The guest ended without a reply.
    NoResponse,
    /// The host panicked.
    Panicked,
}

/// Runs a future of one request. If it panics, only this request fails, and its client gets a reply.
///
/// # Errors
/// [`HostError::Panicked`]. The panic's message and place are in the log.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, HostError> {
    // What the future shares with other requests is behind locks that ignore poisoning, or atomic.
    let caught = AssertUnwindSafe(future).catch_unwind().await;
    caught.map_err(|_| HostError::Panicked)
}

impl HostError {
    /// The stable code of this error.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoRoute { .. } => "no_route",
            Self::BadRequest { .. } => "bad_request",
            Self::HeaderTimeout { .. } => "header_timeout",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyIdleTimeout { .. } | Self::BodyTimeout { .. } => "body_timeout",
            Self::UploadMemory { .. } => "upload_memory_full",
            Self::NotLoaded => "component_not_loaded",
            Self::QueueFull { .. } => "queue_full",
            Self::QueueTimeout { .. } => "queue_timeout",
            Self::CpuLimit { .. } => "cpu_limit_exceeded",
            Self::RequestTimeout { .. } => "request_timeout",
            Self::MemoryLimit { .. } => "memory_limit_exceeded",
            Self::HandleLimit { .. } => "handle_limit_exceeded",
            Self::Trap => "guest_trapped",
            Self::NoResponse => "guest_no_response",
            Self::Panicked => "internal_error",
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute { .. } => StatusCode::NOT_FOUND,
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeaderTimeout { .. }
            | Self::BodyIdleTimeout { .. }
            | Self::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::QueueFull { .. } | Self::QueueTimeout { .. } | Self::UploadMemory { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::CpuLimit { .. } | Self::RequestTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::NotLoaded
            | Self::MemoryLimit { .. }
            | Self::HandleLimit { .. }
            | Self::Trap
            | Self::NoResponse
            | Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NoRoute { path } => format!("no route of this application matches {path:?}"),
            Self::BadRequest { reason } => reason.clone(),
            Self::HeaderTimeout { limit } => format!("the header was incomplete after {limit:?}"),
            Self::BodyTooLarge { limit } => {
                format!("the body is larger than {limit} bytes: send a smaller one")
            }
            Self::BodyIdleTimeout { waited } => format!("the body stalled for {waited:?}"),
            Self::BodyTimeout { limit } => {
                format!("the body was incomplete after {limit:?}: send it faster, or send less")
            }
            Self::UploadMemory { limit } => format!(
                "the bodies of all requests together reach the limit of {limit} bytes: try again soon"
            ),
            Self::NotLoaded => {
                "the component of this route is not loaded: see the server's log".into()
            }
            Self::QueueFull { length } => {
                format!("no instance is free and {length} requests are waiting: try again soon")
            }
            Self::QueueTimeout { waited } => {
                format!("no instance became free within {waited:?}: try again soon")
            }
            Self::CpuLimit { limit } => {
                format!("the request exceeded its limit of {limit:?} of CPU time")
            }
            Self::RequestTimeout { limit } => format!("the request made no progress for {limit:?}"),
            Self::MemoryLimit { limit } => {
                format!("the request exceeded its memory limit of {limit} bytes")
            }
            Self::HandleLimit { limit } => format!(
                "the function had more than {limit} handles (requests, bodies, streams, …) at once"
            ),
            Self::Trap => "the function crashed; see its log".into(),
            Self::NoResponse => "the function ended without a reply".into(),
            Self::Panicked => "Spotter failed: please report it, with the server's log".into(),
        }
    }

    /// The JSON body of the reply: `{"error":{"code","message"}}`.
    pub(crate) fn body(&self) -> String {
        format!("{}\n", json!({"error": {"code": self.code(), "message": self.message()}}))
    }

    /// The reply to the client.
    pub(crate) fn into_response(self) -> Response<WasiBody> {
        let mut response = Response::new(full(self.body()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::{HostError, catch_panic};

    #[tokio::test]
    async fn a_panic_becomes_a_reply() {
        assert_eq!(catch_panic(async { 7 }).await, Ok(7));
        let panicking = async {
            tokio::task::yield_now().await;
            panic!("a bug");
        };
        let caught: Result<(), HostError> = catch_panic(panicking).await;
        let response = caught.unwrap_err().into_response();
        assert_eq!(response.status(), 500);
    }
}
