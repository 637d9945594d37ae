//! Logs each request and updates the metrics once its reply has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Method, Request, Response, Uri};
use hyper::body::Body;
use wasmtime_wasi_http::WasiBody;

use super::label::LabelValue;
use super::metrics::{Metrics, RequestLabels, seconds};
use super::traces::RequestSpan;
use crate::client::connection_info::ConnectionInfo;
use crate::inspected_body::{BodyState, InspectedBody, PolledFrame};

/// The header that identifies a request in the log, to the client and to the guest.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// One request being handled. Dropping it writes the log line and the metrics.
pub(crate) struct RequestRecord {
    metrics: Arc<Metrics>,
    started: Instant,
    method: Method,
    path: String,
    client: String,
    request_id: HeaderValue,
    traceparent: Option<HeaderValue>,
    span: Option<RequestSpan>,
    route: String,
    status: u16,
    bytes: u64,
    /// Whether the reply was sent to its end, rather than cut off by a lost client.
    is_complete: bool,
}

impl RequestRecord {
    /// Starts observing a request. A request without an id gets one.
    pub(crate) fn begin<B>(
        metrics: &Arc<Metrics>,
        request: &mut Request<B>,
        connection: ConnectionInfo,
        span: Option<RequestSpan>,
    ) -> Self {
        metrics.in_flight.inc();
        let request_id = request_id(request);
        request.headers_mut().insert(REQUEST_ID, request_id.clone());
        Self {
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            method: request.method().clone(),
            path: loggable(target(request.uri())),
            client: connection.client.to_string(),
            request_id,
            span,
            traceparent: request.headers().get("traceparent").cloned(),
            route: String::new(),
            status: 0,
            bytes: 0,
            is_complete: false,
        }
    }

    /// Sets the route that matched.
    pub(crate) fn set_route(&mut self, route: String) {
        self.route = route;
    }

    /// Wraps the reply so that it is observed until its end.
    pub(crate) fn wrap_response(mut self, mut response: Response<WasiBody>) -> Response<WasiBody> {
        self.status = response.status().as_u16();
        // An empty body is never polled.
        self.is_complete = response.body().is_end_stream();
        response.headers_mut().insert(REQUEST_ID, self.request_id.clone());
        let watch = move |step, state| {
            self.observe_frame(&step, state);
            step
        };
        response.map(|body| InspectedBody::wrap(body, watch))
    }

    fn observe_frame(&mut self, step: &PolledFrame, state: BodyState) {
        if let Poll::Ready(Some(Ok(frame))) = step {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        self.is_complete |= state == BodyState::Ended;
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.total.observe(seconds(took));
        let route = LabelValue(std::mem::take(&mut self.route));
        let labels = RequestLabels { route, status: self.status };
        self.metrics.requests.get_or_create(&labels).inc();
        let route = labels.route.0;
        if let Some(span) = self.span.take() {
            span.end(&self.method, &route, self.status, &self.client);
        }
        tracing::info!(
            target: "access",
            method = %self.method,
            path = self.path,
            status = self.status,
            route,
            duration_ms = (took.as_secs_f64() * 100_000.0).round() / 100.0,
            bytes = self.bytes,
            complete = self.is_complete,
            client = self.client,
            request_id = self.request_id.to_str().unwrap_or_default(),
            traceparent = self.traceparent.as_ref().and_then(|parent| parent.to_str().ok()),
        );
    }
}

/// The path, or the authority of a CONNECT, which has no path.
fn target(uri: &Uri) -> &str {
    match (uri.path(), uri.authority()) {
        ("", Some(authority)) => authority.as_str(),
        (path, _) => path,
    }
}

/// The beginning of a path: log lines wait in memory until they are written.
fn loggable(path: &str) -> String {
    const MAX_PATH_BYTES: usize = 2 << 10;
    path[..path.floor_char_boundary(MAX_PATH_BYTES)].to_owned()
}

/// The request's own id if it can be logged, otherwise a new one.
fn request_id<B>(request: &Request<B>) -> HeaderValue {
    const MAX_REQUEST_ID_BYTES: usize = 128;
    let given = request.headers().get(REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= MAX_REQUEST_ID_BYTES
            && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(new_id)
}

/// An id from the time, the process id and a counter: unique in this process, and very likely beyond it.
fn new_id() -> HeaderValue {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let id = format!("{time:016x}-{:x}-{count:x}", std::process::id());
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
