//! Calls a component through the HTTP interface that it exports: `wasi:http/incoming-handler@0.2` or
//! `wasi:http/handler@0.3`.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;

use anyhow::bail;
use http::{HeaderName, Request, Response, header};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Accessor, InstancePre};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, ForbiddenHeaderFilter, WasiBody, WasiHttpHooks, WasiHttpView, p3,
};

use crate::state::InstanceState;

/// A linked component, by the HTTP interface that it exports.
pub enum Handler {
    /// `wasi:http/incoming-handler@0.2.x`
    Incoming(ProxyPre<InstanceState>),
    /// `wasi:http/handler@0.3.x`
    Async(ServicePre<InstanceState>),
}

/// A guest's reply, or the text of its own error.
pub type GuestReply = Result<Response<WasiBody>, String>;

/// Receives a guest's reply as soon as it begins.
pub type ReplySender = oneshot::Sender<GuestReply>;

/// What a guest of WASI 0.3 sees of the requests that it receives: also `host`, which it must not set in its own.
struct Incoming;

impl WasiHttpHooks for Incoming {
    // By default, it makes a filter for each header.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }
}

fn is_forbidden(name: &HeaderName) -> bool {
    *name != header::HOST && DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

impl Handler {
    /// Creates an instance in `store` without running a request.
    ///
    /// # Errors
    /// If there is no free slot in the pool, or the instance fails to start.
    pub async fn instantiate(&self, store: &mut Store<InstanceState>) -> wasmtime::Result<()> {
        match self {
            Self::Incoming(proxy) => proxy.instantiate_async(store).await.map(|_| ()),
            Self::Async(service) => service.instantiate_async(store).await.map(|_| ()),
        }
    }

    /// Finds the HTTP interface that a component exports.
    ///
    /// # Errors
    /// If it exports neither.
    pub fn from_instance_pre(linked: InstancePre<InstanceState>) -> anyhow::Result<Self> {
        if let Ok(service) = ServicePre::new(linked.clone()) {
            return Ok(Self::Async(service));
        }
        match ProxyPre::new(linked) {
            Ok(proxy) => Ok(Self::Incoming(proxy)),
            Err(error) => bail!(
                "it exports neither wasi:http/incoming-handler@0.2 nor wasi:http/handler@0.3: {error}"
            ),
        }
    }

    /// Creates an instance in `store`, calls `on_instantiated`, and runs the instance until it has finished,
    /// including its reply's body.
    ///
    /// # Errors
    /// If the guest traps or exceeds a limit, or the request cannot be passed to it.
    pub async fn run(
        &self,
        store: &mut Store<InstanceState>,
        request: Request<WasiBody>,
        reply: ReplySender,
        on_instantiated: impl FnOnce(),
    ) -> wasmtime::Result<()> {
        match self {
            Self::Incoming(proxy) => {
                let scheme = match request.uri().scheme_str() {
                    Some("https") => Scheme::Https,
                    _ => Scheme::Http,
                };
                let mut http = store.data_mut().http();
                let request = http.new_incoming_request(scheme, request)?;
                let outparam = http.new_response_outparam_from_callback(move |response| {
                    // The receiver may be gone.
                    let _ = reply.send(response.map_err(|error| error.to_string()));
                })?;
                let guest = proxy.instantiate_async(&mut *store).await?;
                on_instantiated();
                guest.wasi_http_incoming_handler().call_handle(store, request, outparam).await
            }
            Self::Async(service) => {
                let guest = service.instantiate_async(&mut *store).await?;
                on_instantiated();
                let (request, transmission) = p3::Request::from_http(&mut Incoming, request);
                let run = async |accessor: &Accessor<InstanceState>| -> wasmtime::Result<()> {
                    match guest.handle(accessor, request).await? {
                        Ok(response) => {
                            let response =
                                accessor.with(|store| response.into_http(store, transmission))?;
                            // If the body is not the guest's own (its request's, for example), the
                            // store must keep running to relay it, even when no guest task is left.
                            let (response, taken) = until_taken(response);
                            let _ = reply.send(Ok(response));
                            taken.await;
                        }
                        Err(error) => drop(reply.send(Err(error.to_string()))),
                    }
                    poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                    Ok(())
                };
                store.run_concurrent(run).await?
            }
        }
    }
}

/// Wraps a response. The future ends when the response's body has been read to its end or dropped.
fn until_taken(response: Response<WasiBody>) -> (Response<WasiBody>, impl Future<Output = ()>) {
    let (taken, waits) = oneshot::channel::<Infallible>();
    let response = response.map(|body| {
        body.map_frame(move |frame| {
            let _lives_as_long = &taken;
            frame
        })
        .boxed_unsync()
    });
    (response, async { drop(waits.await) })
}
