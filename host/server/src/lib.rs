//! Handles a request: finds its route, waits for a permit, runs a fresh instance, and returns its reply.
//!
//! `spotter up` and `spotter detect` use the same [`Server`]; `detect` calls it without a socket.

pub mod admin;
pub mod client;
pub mod connection;
mod deadline;
mod inspected_body;
mod instance;
mod reply;
mod request_body;
pub mod signals;
mod spin_headers;
pub mod telemetry;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, header};
use prometheus_client::collector::Collector;
use serde_json::{Value, json};
use wasmtime_wasi_http::WasiBody;

use client::connection_info::{ConnectionInfo, Scheme};
use deadline::Deadline;
use instance::admission::Admission;
use instance::guest::{InstanceRunner, Invocation};
use reply::cross_origin::Sharing;
use reply::host_error::{HostError, catch_panic};
use request_body::limits::{ExceededLimit, LimitedBody};
use request_body::memory::UploadMemory;
use spotter_app::App;
use spotter_app::browsers::Page;
use spotter_app::routes::{Match, Target};
use spotter_config::Limits;
use spotter_runtime::Runtime;
use spotter_runtime::outbound_http::{ChainedRequest, ServiceChaining};
use telemetry::metrics::Metrics;
use telemetry::request_log::RequestRecord;
use telemetry::traces::Traces;

/// An application with its components loaded, ready to handle requests.
pub struct Server {
    app: App,
    runtime: Runtime,
    limits: Limits,
    admission: Admission,
    uploads: Arc<UploadMemory>,
    instances: Arc<InstanceRunner>,
    metrics: Arc<Metrics>,
    /// `None` if tracing is off.
    traces: Option<Traces>,
    shutting_down: AtomicBool,
}

/// The sender of a request.
enum Origin {
    /// A client. The application's routes select the component.
    Client,
    /// A guest of this application, at the end of a chain of `hops` calls between guests.
    Guest { to: Option<String>, hops: u32 },
}

impl Server {
    /// Loads every component of the application. If `traces` is given, requests are traced. `collectors` add
    /// further metrics to the server's.
    ///
    /// # Errors
    /// If a component cannot be loaded. The error names it and gives the reason.
    pub fn new(
        app: App,
        limits: Limits,
        traces: Option<Traces>,
        collectors: Vec<Box<dyn Collector>>,
    ) -> anyhow::Result<Arc<Self>> {
        let mut runtime = Runtime::new(&limits, &app.options);
        if app.has_state() {
            runtime.open_database(&app.state.join("key_value.redb"), limits.key_value_size)?;
        }
        let sqlite_files = app.sqlite_files();
        if !sqlite_files.is_empty() {
            runtime.use_sqlite(sqlite_files)?;
        }
        for component in app.components.values() {
            runtime.load(component, &app.nn_engine)?;
        }
        let metrics = Arc::new(Metrics::new(collectors, runtime.nn_metrics()));
        let shares = app.components.iter();
        let shares = shares.map(|(id, component)| (id.clone(), component.max_instances)).collect();
        let admission = Admission::new(&limits, &shares, Arc::clone(&metrics));
        let shutting_down = AtomicBool::new(false);
        let uploads = UploadMemory::new(&limits);
        let instances = Arc::new(InstanceRunner::new(&limits, Arc::clone(&metrics)));
        let server = Arc::new(Self {
            app,
            runtime,
            limits,
            admission,
            uploads,
            instances,
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

    /// Makes `/readyz` report 503. The server still handles requests.
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    /// Waits for guests that are still running after their replies, then sends the remaining traces. Call it
    /// once no more requests can arrive.
    pub async fn finish(self: Arc<Self>) {
        self.instances.finish().await;
        // The exporter blocks while it sends.
        let _ = tokio::task::spawn_blocking(move || self.traces.as_ref().map(Traces::finish)).await;
    }

    /// Waits until so many guests without checks have exceeded their limit that the process should be replaced.
    pub async fn exhausted(&self) {
        self.instances.exhausted().await;
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }

    /// Handles one request. A [`HostError`] becomes an error reply.
    pub fn handle(
        &self,
        request: Request<WasiBody>,
        connection: ConnectionInfo,
    ) -> BoxFuture<'_, Response<WasiBody>> {
        // Boxed for the same reason as the future of `listener::serve`.
        Box::pin(self.handle_from(request, connection, Origin::Client))
    }

    async fn handle_from(
        &self,
        mut request: Request<WasiBody>,
        connection: ConnectionInfo,
        origin: Origin,
    ) -> Response<WasiBody> {
        let span = self.traces.as_ref().map(|traces| traces.begin(&mut request));
        let mut record = RequestRecord::begin(&self.metrics, &mut request, connection, span);
        let sharing = match origin {
            Origin::Client => Sharing::of(&self.app, &request),
            Origin::Guest { .. } => None,
        };
        let result = self.dispatch(request, connection, origin, sharing.as_ref(), &mut record);
        let result = catch_panic(result).await.unwrap_or_else(Err);
        let mut response = result.unwrap_or_else(|error| {
            self.metrics.count_rejected(error.code());
            error.into_response()
        });
        if let Some(sharing) = sharing {
            sharing.add(response.headers_mut());
        }
        record.wrap_response(response)
    }

    async fn dispatch(
        &self,
        mut request: Request<WasiBody>,
        connection: ConnectionInfo,
        origin: Origin,
        sharing: Option<&Sharing>,
        record: &mut RequestRecord,
    ) -> Result<Response<WasiBody>, HostError> {
        let path = request.uri().path().to_owned();
        let hops = match origin {
            Origin::Guest { to: Some(id), hops } => {
                // Only loaded components: each name becomes a time series in the metrics.
                self.runtime.component(&id).ok_or(HostError::NotLoaded)?;
                record.set_route(format!("{id}.spin.internal"));
                let found = Match::whole(&path);
                return self.call_component(&id, request, &found, connection, hops).await;
            }
            Origin::Guest { to: None, hops } => hops,
            Origin::Client => {
                client::host_header::normalize(&mut request)?;
                0
            }
        };
        if let Some(own) = path.strip_prefix("/.well-known/spin/") {
            return match own {
                "health" => Ok(reply::plain("OK")),
                "info" => Ok(reply::json(&info(&self.app))),
                _ => Err(HostError::NoRoute { path }),
            };
        }
        let resolved = self.app.routes.resolve(request.uri());
        let (target, found) = resolved.ok_or(HostError::NoRoute { path })?;
        record.set_route(found.pattern.to_string());
        match target {
            Target::Static(reply) => Ok(reply::fixed(reply)),
            Target::Component(id) => {
                self.check_page(id, &request, &found)?;
                if let Some(reply) = sharing.and_then(|sharing| sharing.preflight(&request)) {
                    return Ok(reply);
                }
                self.call_component(id, request, &found, connection, hops).await
            }
        }
    }

    /// Refuses a request for a component's page, if it is turned off.
    fn check_page<B>(
        &self,
        id: &str,
        request: &Request<B>,
        found: &Match<'_>,
    ) -> Result<(), HostError> {
        let page = self.app.components.get(id).map(|component| component.browsers.page);
        let path = request.uri().path();
        // Below an exact route there is no path: the component then looks at the whole one.
        let asked = if found.path_info.is_empty() { path } else { &found.path_info };
        let asks_for_page = asked == "/" && [Method::GET, Method::HEAD].contains(request.method());
        if page == Some(Page::Off) && asks_for_page {
            return Err(HostError::NoRoute { path: path.to_owned() });
        }
        Ok(())
    }

    async fn call_component(
        &self,
        id: &str,
        mut request: Request<WasiBody>,
        found: &Match<'_>,
        connection: ConnectionInfo,
        hops: u32,
    ) -> Result<Response<WasiBody>, HostError> {
        let component = self.runtime.component(id).ok_or(HostError::NotLoaded)?;
        request_body::limits::check_length(request.headers(), &self.limits)?;
        self.admission.check(id, hops)?;
        spin_headers::add(&mut request, found, connection)?;
        let exceeded = ExceededLimit::default();
        let (parts, body) = request.into_parts();
        let body = LimitedBody::new(body, &self.limits, Arc::clone(&exceeded));
        let memory = self.uploads.with_header(&parts.headers);
        let whole = component.needs_whole_body();
        let start_early = || if whole { None } else { self.admission.acquire_early(id, hops) };
        let body_buffer = if whole { self.limits.body_size } else { self.limits.body_buffer };
        let limits = Limits { body_buffer, ..self.limits };
        let deadline = Arc::new(Deadline::new(limits.request_timeout));
        let received =
            request_body::receive(body, &limits, &memory, &deadline, start_early).await?;
        let request = Request::from_parts(parts, received.body);
        let permit = match received.permit {
            Some(permit) => permit,
            None => self.admission.acquire(id, hops).await?,
        };
        let invocation = Invocation { component, permit, hops, deadline };
        let mut reply = self.instances.run(invocation, request).await;
        if let Ok(reply) = &mut reply {
            self.metrics.count_detections(id, reply.headers_mut());
        }
        // If the body exceeded a limit, report that, whatever the guest replied to the truncated body.
        match exceeded.get() {
            Some(error) => Err(error.clone()),
            None => reply,
        }
    }
}

/// The application's name and version, as Spin reports them.
fn info(app: &App) -> Value {
    match app.version.as_str() {
        "" => json!({"name": app.name}),
        version => json!({"name": app.name, "version": version}),
    }
}

impl ServiceChaining for Server {
    fn answer(
        self: Arc<Self>,
        internal: ChainedRequest,
    ) -> Pin<Box<dyn Future<Output = Response<WasiBody>> + Send>> {
        let ChainedRequest { mut request, to, hops } = internal;
        if let Some(host) = request.uri().host().and_then(|host| HeaderValue::try_from(host).ok()) {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        let here = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let connection = ConnectionInfo { client: here, local: here, scheme: Scheme::Http };
        let origin = Origin::Guest { to, hops };
        Box::pin(async move { self.handle_from(request, connection, origin).await })
    }
}
