//! From a request to its reply: route, admission, a fresh instance, and what the guest answers.
//!
//! The same [`Server`] answers sockets (`spotter up`) and calls in process (`spotter detect`).

pub mod admin;
pub mod admission;
pub mod blocks;
pub mod body;
mod descriptors;
pub mod fault;
pub mod guest;
pub mod listener;
pub mod metrics;
pub mod min_rate;
pub mod observe;
pub mod relay;
pub mod spin_headers;
pub mod tls;
pub mod traces;
pub mod upload;
pub mod upload_memory;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Request, Response, header};
use wasmtime_wasi_http::WasiBody;

use crate::app::App;
use crate::app::routes::{Match, Target};
use crate::runtime::outbound::{Internal, Siblings};
use crate::runtime::{Limits, Runtime};
use admission::Admission;
use body::{ExceededLimit, LimitedBody};
use fault::Fault;
use guest::{Call, Guests};
use metrics::Metrics;
use observe::Observation;
use traces::Traces;
use upload_memory::UploadMemory;

/// An application with its components loaded, ready to answer.
pub struct Server {
    app: App,
    runtime: Runtime,
    limits: Limits,
    admission: Admission,
    uploads: Arc<UploadMemory>,
    guests: Arc<Guests>,
    metrics: Arc<Metrics>,
    /// Where spans go, where they are wanted.
    traces: Option<Traces>,
    shutting_down: AtomicBool,
}

/// Who asks, and through which of our addresses.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub client: SocketAddr,
    pub local: SocketAddr,
    pub scheme: Scheme,
}

/// Who sent a request, and to whom.
enum Origin {
    /// A client; the application's routes say whom its request is for.
    Client,
    /// A guest of this application, the last of `hops` that called one another.
    Guest { to: Option<String>, hops: u32 },
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
    /// Loads every component of the application; requests are traced where there are `traces`.
    ///
    /// # Errors
    /// Names the component at fault, and why.
    pub fn new(app: App, limits: Limits, traces: Option<Traces>) -> anyhow::Result<Arc<Self>> {
        let mut runtime = Runtime::new(&limits)?;
        if app.has_state() {
            runtime.open_database(&app.state.join("key_value.redb"))?;
        }
        for component in app.components.values() {
            runtime.load(component)?;
        }
        let metrics = Arc::new(Metrics::default());
        let admission = Admission::new(&limits, Arc::clone(&metrics));
        let shutting_down = AtomicBool::new(false);
        let uploads = UploadMemory::new(&limits);
        let guests = Arc::new(Guests::new(&limits, Arc::clone(&metrics)));
        let server = Arc::new(Self {
            app,
            runtime,
            limits,
            admission,
            uploads,
            guests,
            metrics,
            traces,
            shutting_down,
        });
        let siblings: std::sync::Weak<Self> = Arc::downgrade(&server);
        server.runtime.connect(siblings);
        Ok(server)
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
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
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    /// Waits for guests that work on after their replies, and sends what is left of the traces; to be
    /// called when no more requests are to come.
    pub async fn finish(self: Arc<Self>) {
        self.guests.finish().await;
        // Sending waits on a thread of its own.
        let _ = tokio::task::spawn_blocking(move || self.traces.as_ref().map(Traces::finish)).await;
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }

    /// Answers one request; a fault becomes the reply that tells of it.
    pub async fn handle(
        &self,
        request: Request<WasiBody>,
        connection: Connection,
    ) -> Response<WasiBody> {
        self.handle_from(request, connection, Origin::Client).await
    }

    async fn handle_from(
        &self,
        mut request: Request<WasiBody>,
        connection: Connection,
        origin: Origin,
    ) -> Response<WasiBody> {
        let span = self.traces.as_ref().map(|traces| traces.begin(&mut request));
        let mut observation = Observation::begin(&self.metrics, &mut request, connection, span);
        let result = self.dispatch(request, connection, origin, &mut observation).await;
        let mut response = result.unwrap_or_else(|fault| {
            self.metrics.count_rejected(fault.code());
            fault.into_response()
        });
        self.metrics.count_detections(response.headers_mut());
        observation.wrap_response(response)
    }

    async fn dispatch(
        &self,
        request: Request<WasiBody>,
        connection: Connection,
        origin: Origin,
        observation: &mut Observation,
    ) -> Result<Response<WasiBody>, Fault> {
        let path = request.uri().path().to_owned();
        let hops = match origin {
            Origin::Guest { to: Some(id), hops } => {
                // Only names that are there, since each is a series of the metrics.
                self.runtime.component(&id).ok_or(Fault::NotLoaded)?;
                observation.set_route(format!("{id}.spin.internal"));
                let found = Match::whole(&path);
                return self.call_component(&id, request, &found, connection, hops).await;
            }
            Origin::Guest { to: None, hops } => hops,
            Origin::Client => 0,
        };
        if path == "/.well-known/spin/health" {
            return Ok(fault::plain("OK"));
        }
        let (target, found) = self.app.routes.find(&path).ok_or(Fault::NoRoute { path })?;
        observation.set_route(found.pattern.to_string());
        match target {
            Target::Static(reply) => Ok(fault::fixed(reply)),
            Target::Component(id) => {
                self.call_component(id, request, &found, connection, hops).await
            }
        }
    }

    async fn call_component(
        &self,
        id: &str,
        mut request: Request<WasiBody>,
        found: &Match<'_>,
        connection: Connection,
        hops: u32,
    ) -> Result<Response<WasiBody>, Fault> {
        let component = self.runtime.component(id).ok_or(Fault::NotLoaded)?;
        body::check_length(request.headers(), &self.limits)?;
        self.admission.check(hops)?;
        spin_headers::add(&mut request, found, connection)?;
        let exceeded = ExceededLimit::default();
        let (parts, body) = request.into_parts();
        let body = LimitedBody::new(body, &self.limits, Arc::clone(&exceeded));
        let body = upload::receive(body, &self.limits, &self.uploads).await?;
        let request = Request::from_parts(parts, body);
        let permit = self.admission.acquire(hops).await?;
        let call = Call { component, permit, hops };
        let reply = self.guests.run(self.runtime.engine(), call, request).await;
        // Whatever the guest made of a body that was cut off, its client is told the cause.
        match exceeded.get() {
            Some(fault) => Err(fault.clone()),
            None => reply,
        }
    }
}

impl Siblings for Server {
    fn answer(
        self: Arc<Self>,
        internal: Internal,
    ) -> Pin<Box<dyn Future<Output = Response<WasiBody>> + Send>> {
        let Internal { mut request, to, hops } = internal;
        if let Some(host) = request.uri().host().and_then(|host| HeaderValue::try_from(host).ok()) {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let connection = Connection { client: here, local: here, scheme: Scheme::Http };
        let origin = Origin::Guest { to, hops };
        Box::pin(async move { self.handle_from(request, connection, origin).await })
    }
}
