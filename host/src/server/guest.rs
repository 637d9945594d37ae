//! One guest for one request: made, run under its limits, and dropped.

use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Instant;

use http::{Request, Response};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use wasmtime::Engine;
use wasmtime_wasi_http::{Error, WasiBody};

use super::admission::Place;
use super::body::{Stage, WatchedBody};
use super::fault::Fault;
use super::metrics::{Metrics, ReasonLabels, seconds};
use crate::runtime::Limits;
use crate::runtime::engine::Loaded;
use crate::runtime::instance::{self, CpuTime, DeadlineExceeded, Metered, State};

/// What is needed to run a guest.
pub struct Call<'a> {
    pub component: &'a Arc<Loaded>,
    pub limits: &'a Limits,
    pub metrics: &'a Arc<Metrics>,
    pub place: Place,
    /// How many guests have called one another to come here.
    pub hops: u32,
}

/// Why a guest ended early, if it did: known before its reply's body ends.
type Failure = Arc<OnceLock<Fault>>;

impl Call<'_> {
    /// Runs the guest until its reply begins; the reply's body then streams from it. A client that
    /// goes away before the end stops the guest.
    ///
    /// # Errors
    /// What kept the guest from a reply.
    pub async fn run(
        self,
        engine: &Engine,
        request: Request<WasiBody>,
    ) -> Result<Response<WasiBody>, Fault> {
        let (limits, component) = (*self.limits, Arc::clone(self.component));
        let (metrics, place) = (Arc::clone(self.metrics), self.place);
        let used = CpuTime::start();
        let wasi = component.wasi().map_err(|error| {
            tracing::error!(
                component = component.id(),
                error = format!("{error:#}"),
                "no instance"
            );
            Fault::Unloaded
        })?;
        let mut store =
            instance::store(engine, wasi, &component, &limits, Arc::clone(&used), self.hops);
        let (reply, replied) = oneshot::channel();
        let counted = Arc::clone(&used);
        let failure = Failure::default();
        let guest_failure = Arc::clone(&failure);
        let guest = async move {
            let began = Instant::now();
            let made = || metrics.instantiate.observe(seconds(began.elapsed()));
            let called = component.handler().run(&mut store, request, reply, made);
            if let Err(error) = called.await {
                let fault = fault(&error, store.data(), &limits, component.id());
                metrics.guest_failures.get_or_create(&ReasonLabels { reason: fault.code() }).inc();
                // Before the store is dropped, and with it the reply's body.
                let _ = guest_failure.set(fault);
            }
            metrics.guest.observe(seconds(counted.total()));
            metrics.memory_peak.observe(store.data().memory_peak());
            drop(store);
            drop(place);
        };
        let timed_failure = Arc::clone(&failure);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut timed = std::pin::pin!(tokio::time::timeout(
                limits.request_time,
                Metered::new(guest, used)
            ));
            if timed.as_mut().await.is_err() {
                let _ = timed_failure.set(Fault::Timeout { limit: limits.request_time });
            }
        }));
        first_of(replied, task, failure).await
    }
}

/// The guest's reply, or the fault it ended with before it gave one.
async fn first_of(
    replied: oneshot::Receiver<Result<Response<WasiBody>, String>>,
    task: AbortOnDropHandle<()>,
    failure: Failure,
) -> Result<Response<WasiBody>, Fault> {
    match replied.await {
        Ok(Ok(response)) => Ok(response.map(|body| follow(body, task, failure))),
        Ok(Err(error)) => {
            tracing::warn!(error, "the guest replied with an error");
            Err(Fault::NoReply)
        }
        Err(_) => match task.await {
            Ok(()) => Err(failure.get().cloned().unwrap_or(Fault::NoReply)),
            Err(_) => Err(Fault::Trap),
        },
    }
}

fn fault(error: &wasmtime::Error, state: &State, limits: &Limits, id: &str) -> Fault {
    tracing::error!(component = id, error = format!("{error:#}"), "the guest failed");
    if error.downcast_ref::<DeadlineExceeded>().is_some() {
        Fault::Deadline { limit: limits.request_cpu }
    } else if state.memory_was_refused() {
        Fault::Memory { limit: limits.instance_memory }
    } else {
        Fault::Trap
    }
}

/// A reply's body as its guest writes it. Dropped before its end, it stops the guest; after its
/// end, the guest may finish what it has still to do, within its limits.
fn follow(body: WasiBody, guest: AbortOnDropHandle<()>, failure: Failure) -> WasiBody {
    let mut guest = Some(guest);
    WatchedBody::wrap(body, move |step, stage| {
        if matches!(step, Poll::Ready(None)) && failure.get().is_some() {
            // Its end is where the guest was stopped: no client may take that for the whole.
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        if let Some(guest) = guest.take_if(|_| stage == Stage::Over) {
            drop(guest.detach());
        }
        step
    })
}
