//! From a request to its reply: route, admission, a fresh instance, and what the guest answers.
//!
//! The same [`Server`] answers sockets (`spotter up`) and calls in process (`spotter detect`).

pub mod admin;
pub mod admission;
pub mod body;
pub mod fault;
pub mod guest;
pub mod listener;
pub mod metrics;
pub mod observe;
pub mod spin_headers;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt;
use wasmtime_wasi_http::WasiBody;

use crate::app::App;
use crate::app::routes::{Match, Target};
use crate::runtime::{Limits, Runtime};
use admission::Admission;
use body::{Breach, LimitedBody};
use fault::Fault;
use metrics::{Metrics, ReasonLabels};
use observe::Observation;

/// An application with its components loaded, ready to answer.
pub struct Server {
    app: App,
    runtime: Runtime,
    limits: Limits,
    admission: Admission,
    metrics: Arc<Metrics>,
    stopping: AtomicBool,
}

/// Who asks, and through which of our addresses.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub client: SocketAddr,
    pub local: SocketAddr,
    pub scheme: Scheme,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// As a URL has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Server {
    /// Loads every component of the application.
    ///
    /// # Errors
    /// Names the component at fault, and why.
    pub fn new(app: App, limits: Limits) -> anyhow::Result<Arc<Self>> {
        let mut runtime = Runtime::new(&limits)?;
        if app.has_state() {
            runtime.open_stores(&app.state.join("key_value.redb"))?;
        }
        for component in app.components.values() {
            runtime.load(component)?;
        }
        let metrics = Arc::new(Metrics::default());
        let admission = Admission::new(&limits, Arc::clone(&metrics));
        let stopping = AtomicBool::new(false);
        Ok(Arc::new(Self { app, runtime, limits, admission, metrics, stopping }))
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// From here on the server is not ready, though it goes on answering.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Answers one request; a fault becomes the reply that tells of it.
    pub async fn respond(
        &self,
        mut request: Request<WasiBody>,
        connection: Connection,
    ) -> Response<WasiBody> {
        let mut observation = Observation::begin(&self.metrics, &mut request, connection);
        let reply = self.answer(request, connection, &mut observation).await;
        let mut response = reply.unwrap_or_else(|fault| {
            self.metrics.rejected.get_or_create(&ReasonLabels { reason: fault.code() }).inc();
            fault.into_response()
        });
        self.metrics.count_detections(response.headers_mut());
        observation.follow(response)
    }

    async fn answer(
        &self,
        request: Request<WasiBody>,
        connection: Connection,
        observation: &mut Observation,
    ) -> Result<Response<WasiBody>, Fault> {
        let path = request.uri().path().to_owned();
        if path == "/.well-known/spin/health" {
            return Ok(fault::plain("OK"));
        }
        let found = self.app.routes.find(&path).ok_or(Fault::NoRoute { path })?;
        observation.routed(found.pattern.to_string());
        match found.target {
            Target::Static(reply) => Ok(fault::fixed(reply)),
            Target::Component(id) => self.call(id, request, &found, connection).await,
        }
    }

    async fn call(
        &self,
        id: &str,
        mut request: Request<WasiBody>,
        found: &Match<'_>,
        connection: Connection,
    ) -> Result<Response<WasiBody>, Fault> {
        let component = self.runtime.component(id).ok_or(Fault::Unloaded)?;
        body::check_length(request.headers(), &self.limits)?;
        let place = self.admission.enter().await?;
        spin_headers::add(&mut request, found, connection);
        let breach = Breach::default();
        let request = request
            .map(|body| LimitedBody::new(body, &self.limits, Arc::clone(&breach)).boxed_unsync());
        let call = guest::Call {
            component,
            limits: &self.limits,
            metrics: &self.metrics,
            scheme: connection.scheme,
            place,
        };
        let reply = call.run(self.runtime.engine(), request).await;
        // Whatever the guest made of a body that was cut off, its client is told the cause.
        match breach.get() {
            Some(fault) => Err(fault.clone()),
            None => reply,
        }
    }
}
