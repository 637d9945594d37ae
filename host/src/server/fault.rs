//! What goes wrong outside the guest: a stable code, the status that fits, and a JSON body in the
//! same shape as the detector's own errors.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use wasmtime_wasi_http::WasiBody;

use crate::app::routes::StaticReply;

/// Why a request got no reply from a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No route matches.
    NoRoute { path: String },
    /// The request cannot be given to a guest.
    BadRequest { reason: String },
    /// The header was not complete in time.
    HeaderTimeout { limit: Duration },
    /// The body is larger than it may be.
    BodyTooLarge { limit: u64 },
    /// The client paused for too long within the body.
    BodyIdleTimeout { waited: Duration },
    /// The client took too long over the body as a whole.
    BodyTimeout { limit: Duration },
    /// The bodies of all requests together are more than may be held.
    UploadMemory { limit: u64 },
    /// A route names a component that is not loaded.
    NotLoaded,
    /// Every instance is busy, and so is the queue.
    QueueFull { length: usize },
    /// Every instance stayed busy for as long as a request may wait.
    QueueTimeout { waited: Duration },
    /// The guest used more processor time than it may.
    CpuLimit { limit: Duration },
    /// The request took longer, from the start of its instance, than it may.
    RequestTimeout { limit: Duration },
    /// The guest asked for more memory than it may have, and failed without it.
    MemoryLimit { limit: u64 },
    /// The guest trapped: a panic, or a fault of its own.
    Trap,
    /// The guest ended without a reply.
    NoResponse,
}

impl Fault {
    /// The stable name of this fault, for programs.
    pub fn code(&self) -> &'static str {
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
            Self::Trap => "guest_trapped",
            Self::NoResponse => "guest_no_response",
        }
    }

    pub fn status(&self) -> StatusCode {
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
            Self::NotLoaded | Self::MemoryLimit { .. } | Self::Trap | Self::NoResponse => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NoRoute { path } => format!("no route of this application matches {path:?}"),
            Self::BadRequest { reason } => reason.clone(),
            Self::HeaderTimeout { limit } => format!("the header was not complete after {limit:?}"),
            Self::BodyTooLarge { limit } => {
                format!("the body is larger than the {limit} bytes it may have: send less")
            }
            Self::BodyIdleTimeout { waited } => format!("no more of the body came for {waited:?}"),
            Self::BodyTimeout { limit } => {
                format!("the body was not complete after {limit:?}: send it faster, or less of it")
            }
            Self::UploadMemory { limit } => format!(
                "the bodies of all requests take up the {limit} bytes they may: try again soon"
            ),
            Self::NotLoaded => "the route's component is not loaded".into(),
            Self::QueueFull { length } => {
                format!("all instances are busy and {length} requests wait already: try again soon")
            }
            Self::QueueTimeout { waited } => {
                format!("all instances stayed busy for {waited:?}: try again soon")
            }
            Self::CpuLimit { limit } => {
                format!("the request used more than the {limit:?} of processor time it may have")
            }
            Self::RequestTimeout { limit } => format!("the request took longer than {limit:?}"),
            Self::MemoryLimit { limit } => {
                format!("the request needs more than the {} MiB it may have", limit >> 20)
            }
            Self::Trap => "the function stopped with an error; its log says more".into(),
            Self::NoResponse => "the function ended without a reply".into(),
        }
    }

    /// The body a client gets: `{"error":{"code","message"}}`.
    pub fn body(&self) -> String {
        format!("{}\n", json!({"error": {"code": self.code(), "message": self.message()}}))
    }

    /// The reply a client gets.
    pub fn into_response(self) -> Response<WasiBody> {
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

/// A reply of plain text.
pub fn plain(text: &'static str) -> Response<WasiBody> {
    Response::new(full(text))
}

/// The reply of a `static_response`.
pub fn fixed(reply: &StaticReply) -> Response<WasiBody> {
    let mut response = Response::new(full(reply.body.clone()));
    *response.status_mut() = reply.status;
    response.headers_mut().extend(reply.headers.iter().cloned());
    response
}

/// A body that is there as a whole.
pub fn full(body: impl Into<Bytes>) -> WasiBody {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}
