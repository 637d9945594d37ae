//! OpenTelemetry traces: one span per request, a child of the caller's span if there is one, sent to a
//! collector with OTLP over HTTP.
//!
//! Attribute names follow the semantic conventions for HTTP servers
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span>).

use anyhow::Context as _;
use http::{Method, Request};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

/// Sends spans to a collector.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// The span of one request. It ends when dropped.
pub struct RequestSpan(Span);

impl Traces {
    /// Sends spans to the collector at `endpoint`, such as `http://127.0.0.1:4318`, as the service `service`.
    /// Do not call it from an async task: the exporter runs on its own thread.
    ///
    /// # Errors
    /// If `endpoint` is not an `http` URL.
    pub fn to(endpoint: &str, service: &str) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .with_context(|| {
                format!("cannot send traces to {endpoint:?}; write http://HOST:4318")
            })?;
        let resource = resource(service);
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("spotter");
        Ok(Self { provider, tracer })
    }

    /// Starts a request's span and writes it into the request's `traceparent`, so that a guest's own calls
    /// become its children.
    pub fn begin<B>(&self, request: &mut Request<B>) -> RequestSpan {
        let propagator = TraceContextPropagator::new();
        let parent =
            propagator.extract_with_context(&Context::new(), &HeaderExtractor(request.headers()));
        let method = request.method().clone();
        let span = self
            .tracer
            .span_builder(method.to_string())
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method.to_string()),
                KeyValue::new("url.path", request.uri().path().to_owned()),
            ])
            .start_with_context(&self.tracer, &parent);
        let own = Context::new().with_remote_span_context(span.span_context().clone());
        propagator.inject_context(&own, &mut HeaderInjector(request.headers_mut()));
        RequestSpan(span)
    }

    /// Sends the remaining spans.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "not all traces were sent");
        }
    }
}

/// What the spans come from: by the environment (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`), or else the service
/// `service`.
fn resource(service: &str) -> Resource {
    let given = Resource::builder().build();
    let name = given.get(&Key::from_static_str("service.name"));
    if name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return given;
    }
    Resource::builder().with_service_name(service.to_owned()).build()
}

impl RequestSpan {
    /// Ends the span with the result of the request.
    pub fn end(mut self, method: &Method, route: &str, status: u16, client: &str) {
        if !route.is_empty() {
            self.0.update_name(format!("{method} {route}"));
            self.0.set_attribute(KeyValue::new("http.route", route.to_owned()));
        }
        self.0.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        self.0.set_attribute(KeyValue::new("client.address", client.to_owned()));
        if status >= 500 {
            self.0.set_status(Status::error(""));
        }
        self.0.end();
    }
}
