//! Replies to clients: those of guests on their way, and those that the host itself makes.

pub(crate) mod cross_origin;
pub(crate) mod host_error;
pub(crate) mod relay;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use wasmtime_wasi_http::WasiBody;

use spotter_app::routes::StaticReply;

/// A plain-text reply.
pub(crate) fn plain(text: &'static str) -> Response<WasiBody> {
    Response::new(full(text))
}

/// A reply in JSON.
pub(crate) fn json(value: &Value) -> Response<WasiBody> {
    let mut response = Response::new(full(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The reply of a `static_response`.
pub(crate) fn fixed(reply: &StaticReply) -> Response<WasiBody> {
    let mut response = Response::new(full(reply.body.clone()));
    *response.status_mut() = reply.status;
    response.headers_mut().extend(reply.headers.iter().cloned());
    response
}

/// A body that is in memory.
pub(crate) fn full(body: impl Into<Bytes>) -> WasiBody {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}
