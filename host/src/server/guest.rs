//! One guest for one request: made, run under its limits, and dropped.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{Method, Request, Response};
use tokio::sync::oneshot;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use wasmtime::Engine;
use wasmtime_wasi_http::WasiBody;

use super::admission::Place;
use super::fault::Fault;
use super::metrics::{Metrics, seconds};
use super::relay::{self, Ended, ReplyMemory};
use crate::runtime::Limits;
use crate::runtime::engine::Loaded;
use crate::runtime::handler::GuestReply;
use crate::runtime::instance::{self, DeadlineExceeded, Metered, State, Usage};

/// Runs guests: what all of them share.
pub struct Guests {
    limits: Limits,
    metrics: Arc<Metrics>,
    replies: ReplyMemory,
    /// Those that run, be it after their reply.
    running: TaskTracker,
}

/// One guest to run.
pub struct Call<'a> {
    pub component: &'a Arc<Loaded>,
    pub place: Place,
    /// How many guests have called one another to come here.
    pub hops: u32,
}

/// Why a guest ended early, if it did: known before its reply's body ends.
type Failure = Arc<OnceLock<Fault>>;

impl Guests {
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let replies = ReplyMemory::new(limits);
        Self { limits: *limits, metrics, replies, running: TaskTracker::new() }
    }

    /// Waits until none runs; to be called when no more are to come.
    pub async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }

    /// Runs a guest until its reply begins; the reply's body follows as the guest writes it. A client
    /// that goes away before the end stops the guest.
    ///
    /// # Errors
    /// What kept the guest from a reply.
    pub async fn run(
        self: &Arc<Self>,
        engine: &Engine,
        call: Call<'_>,
        request: Request<WasiBody>,
    ) -> Result<Response<WasiBody>, Fault> {
        let Call { component, place, hops } = call;
        let (limits, component) = (self.limits, Arc::clone(component));
        let used = Usage::start();
        let wasi = component.wasi().map_err(|error| {
            tracing::error!(
                component = component.id(),
                error = format!("{error:#}"),
                "no instance"
            );
            Fault::Unloaded
        })?;
        let mut store = instance::store(engine, wasi, &component, &limits, Arc::clone(&used), hops);
        let method = request.method().clone();
        let mut account = Account::open(&self.metrics, &used);
        let failure = Arc::clone(&account.failure);
        let (reply, replied) = oneshot::channel();
        let (metrics, failed) = (Arc::clone(&self.metrics), Arc::clone(&failure));
        let guest = async move {
            let made_from = Instant::now();
            let made = || metrics.instantiate.observe(seconds(made_from.elapsed()));
            let called = component.handler().run(&mut store, request, reply, made);
            if let Err(error) = called.await {
                // Before the store is dropped, and with it the reply's body.
                let _ = failed.set(fault(&error, store.data(), &limits, component.id()));
            }
            drop(store);
            drop(place);
        };
        let (begun, begins) = oneshot::channel();
        let relay = Arc::clone(self).relay(method, replied, begun, Arc::clone(&failure));
        let task = AbortOnDropHandle::new(self.running.spawn(async move {
            let both = run_both(Metered::new(guest, used), relay);
            let mut both = std::pin::pin!(tokio::time::timeout(limits.request_time, both));
            match both.as_mut().await {
                Ok(ended) => account.close(ended),
                Err(_) => drop(account.failure.set(Fault::Timeout { limit: limits.request_time })),
            }
        }));
        let Ok(begun) = begins.await else {
            // It ends without a reply: `failure` says why, once it has.
            let _ = task.await;
            return Err(failure.get().cloned().unwrap_or(Fault::NoReply));
        };
        // From here on, it is the relay that notices a client that goes away.
        drop(task.detach());
        begun.map_err(|error| {
            tracing::warn!(error, "the guest replied with an error");
            Fault::NoReply
        })
    }

    /// Passes on the guest's reply: its header through `begun`, then its body.
    async fn relay(
        self: Arc<Self>,
        method: Method,
        replied: oneshot::Receiver<GuestReply>,
        begun: oneshot::Sender<GuestReply>,
        failure: Failure,
    ) -> Ended {
        let response = match replied.await {
            Ok(Ok(response)) => response,
            Ok(error) => {
                let _ = begun.send(error);
                return Ended::Whole;
            }
            Err(_) => return Ended::Whole,
        };
        let (response, relay) = relay::divide(response, &method, &self.replies);
        match begun.send(Ok(response)) {
            Ok(()) => relay.run(|| failure.get().is_some()).await,
            Err(_) => Ended::ClientGone,
        }
    }
}

/// Runs a guest and the relay of its reply to their ends; without its client, a guest is stopped.
async fn run_both(guest: impl Future<Output = ()>, relay: impl Future<Output = Ended>) -> Ended {
    let (mut guest, mut relay) = (std::pin::pin!(guest), std::pin::pin!(relay));
    tokio::select! {
        () = &mut guest => {
            relay.await;
        }
        ended = &mut relay => match ended {
            Ended::Whole => guest.await,
            Ended::ClientGone => return Ended::ClientGone,
        },
    }
    Ended::Whole
}

/// What is counted of a guest, however it ends.
struct Account {
    metrics: Arc<Metrics>,
    used: Arc<Usage>,
    failure: Failure,
    ended: Ended,
}

impl Account {
    fn open(metrics: &Arc<Metrics>, used: &Arc<Usage>) -> Self {
        let (metrics, used) = (Arc::clone(metrics), Arc::clone(used));
        // Until the guest is known to have ended otherwise.
        Self { metrics, used, failure: Failure::default(), ended: Ended::ClientGone }
    }

    fn close(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.metrics.guest.observe(seconds(self.used.cpu()));
        self.metrics.memory_peak.observe(self.used.memory_peak());
        let reason = match (self.failure.get(), self.ended) {
            (Some(fault), _) => fault.code(),
            (None, Ended::ClientGone) => "client_gone",
            (None, Ended::Whole) => return,
        };
        self.metrics.guest_failed(reason);
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
