//! From a request to its reply: route, admission, a fresh instance, and what the guest answers.
//!
//! The same [`Server`] answers sockets (`spotter up`) and calls in process (`spotter detect`).

pub mod admission;
pub mod fault;
pub mod guest;
pub mod listener;
pub mod spin_headers;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use wasmtime_wasi_http::WasiBody;

use crate::app::App;
use crate::runtime::{Limits, Runtime};
use admission::Admission;
use fault::Fault;

/// An application with its components loaded, ready to answer.
pub struct Server {
    app: App,
    runtime: Runtime,
    limits: Limits,
    admission: Admission,
}

/// Who asks, and through which of our addresses.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

impl Server {
    /// Loads every component of the application.
    ///
    /// # Errors
    /// Names the component at fault, and why.
    pub fn new(app: App, limits: Limits) -> anyhow::Result<Arc<Self>> {
        let mut runtime = Runtime::new(&limits)?;
        for component in app.components.values() {
            runtime.load(&component.id, &component.source)?;
        }
        let admission = Admission::new(&limits);
        Ok(Arc::new(Self { app, runtime, limits, admission }))
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Answers one request; a fault becomes the reply that tells of it.
    pub async fn respond(
        &self,
        request: Request<WasiBody>,
        connection: Connection,
    ) -> Response<WasiBody> {
        match self.try_respond(request, connection).await {
            Ok(response) => response,
            Err(fault) => fault.into_response(),
        }
    }

    async fn try_respond(
        &self,
        mut request: Request<WasiBody>,
        connection: Connection,
    ) -> Result<Response<WasiBody>, Fault> {
        let path = request.uri().path().to_owned();
        if path == "/.well-known/spin/health" {
            return Ok(fault::plain("OK"));
        }
        let found = self.app.routes.find(&path).ok_or(Fault::NoRoute { path })?;
        let component = self.app.components.get(found.component).ok_or(Fault::Unloaded)?;
        let proxy = self.runtime.component(found.component).ok_or(Fault::Unloaded)?;
        let place = self.admission.enter().await?;
        spin_headers::add(&mut request, &found, connection);
        let call = guest::Call { proxy, component, limits: &self.limits, place };
        call.run(self.runtime.engine(), request).await
    }
}
