//! Runs one guest for one request, under its limits.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{Method, Request, Response};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use wasmtime::Store;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi_http::WasiBody;

use super::guest_thread;
use super::permit::Permit;
use super::scheduled_guest::ScheduledGuest;
use super::watchdog::Watchdog;
use crate::deadline::Deadline;
use crate::reply::host_error::{HostError, catch_panic};
use crate::reply::relay::{self, RelayEnd, ReplyMemory};
use crate::telemetry::metrics::{Metrics, seconds};
use spotter_app::component_manifest::Interruption;
use spotter_config::Limits;
use spotter_runtime::handler::{GuestReply, ReplySender};
use spotter_runtime::limits::cpu_limit::CpuLimitExceeded;
use spotter_runtime::limits::usage::{Metered, Usage};
use spotter_runtime::loaded::LoadedComponent;
use spotter_runtime::state::{InstanceState, MAX_RESOURCES};

/// Runs guests, and holds what they share.
pub(crate) struct InstanceRunner {
    limits: Limits,
    metrics: Arc<Metrics>,
    replies: ReplyMemory,
    /// The running guests, including those that have already replied.
    running: TaskTracker,
    watchdog: Arc<Watchdog>,
}

/// One guest to run.
pub(crate) struct Invocation<'a> {
    pub component: &'a Arc<LoadedComponent>,
    pub permit: Permit,
    /// The depth of calls between guests that led to this one.
    pub hops: u32,
    /// When the guest must have replied; each part of the reply extends it.
    pub deadline: Arc<Deadline>,
}

/// Where an instance runs.
#[derive(Clone, Copy)]
enum Execution {
    /// On the server's threads. It pauses at least at each epoch.
    Inline,
    /// On a thread of its own, because the host computes networks for it, which takes longer than an epoch.
    OwnThread,
    /// On a thread of its own, which the watchdog watches.
    Watched,
}

impl Execution {
    fn of(component: &LoadedComponent) -> Self {
        match component.interruption() {
            Interruption::Watchdog => Self::Watched,
            Interruption::Epoch if component.may_run_networks() => Self::OwnThread,
            Interruption::Epoch => Self::Inline,
        }
    }
}

/// The error that ended a guest early, if any. It is set before the reply's body ends.
type GuestFailure = Arc<OnceLock<HostError>>;

impl InstanceRunner {
    pub(crate) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let replies = ReplyMemory::new(limits);
        let watchdog = Arc::new(Watchdog::new(limits, Arc::clone(&metrics)));
        Self { limits: *limits, metrics, replies, running: TaskTracker::new(), watchdog }
    }

    /// Waits until no guest is running. Call it once no more can start.
    pub(crate) async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }

    /// Waits until so many guests have been given up that the process should be replaced.
    pub(crate) async fn exhausted(&self) {
        self.watchdog.exhausted().await;
    }

    /// Runs a guest until its reply begins. The body follows as the guest writes it. If the client
    /// disconnects before the end, the guest is stopped.
    ///
    /// # Errors
    /// If the guest ends without a reply.
    pub(crate) async fn run(
        self: &Arc<Self>,
        invocation: Invocation<'_>,
        request: Request<WasiBody>,
    ) -> Result<Response<WasiBody>, HostError> {
        let Invocation { component, permit, hops, deadline } = invocation;
        deadline.extend();
        let usage = Usage::start();
        let store = self.store(component, &usage, hops)?;
        let mut guard = FailureGuard::new(&self.metrics);
        let failure = Arc::clone(&guard.failure);
        let (reply_tx, reply_rx) = oneshot::channel();
        let (response_tx, response_rx) = oneshot::channel();
        let relay = Arc::clone(self).relay(
            request.method().clone(),
            reply_rx,
            response_tx,
            Arc::clone(&failure),
            Arc::clone(&deadline),
        );
        let call = GuestCall {
            component: Arc::clone(component),
            store,
            limits: self.limits,
            metrics: Arc::clone(&self.metrics),
            failure: Arc::clone(&failure),
        };
        let guest = Metered::new(call.run(request, reply_tx), Arc::clone(&usage));
        let permit = Arc::new(permit);
        let guest = ScheduledGuest::new(guest, Arc::clone(&permit), Arc::clone(&usage));
        let used = UsageGuard { metrics: Arc::clone(&self.metrics), usage: Arc::clone(&usage) };
        let guest = async move {
            let _used = used;
            guest.await;
        };
        let execution = Execution::of(component);
        let guest = self.until_end(execution, guest, usage, permit, Arc::clone(&failure));
        let limit = self.limits.request_timeout;
        let task = AbortOnDropHandle::new(self.running.spawn(async move {
            // Dropped last, so that the failure is set before the reply's body ends.
            let mut guest_and_relay = std::pin::pin!(run_both(guest, relay));
            tokio::select! {
                biased;
                end = guest_and_relay.as_mut() => guard.complete(end),
                () = deadline.passed() => {
                    let _ = guard.failure.set(HostError::RequestTimeout { limit });
                }
            }
        }));
        let Ok(response) = response_rx.await else {
            // The guest ends without a reply. Once it has ended, `failure` has the reason.
            let _ = task.await;
            return Err(failure.get().cloned().unwrap_or(HostError::NoResponse));
        };
        // From now on, the relay detects a client that disconnects.
        drop(task.detach());
        response.map_err(|error| {
            tracing::warn!(error, "the guest replied with an error");
            HostError::NoResponse
        })
    }

    fn store(
        &self,
        component: &LoadedComponent,
        usage: &Arc<Usage>,
        hops: u32,
    ) -> Result<Store<InstanceState>, HostError> {
        component.store(&self.limits, Arc::clone(usage), hops).map_err(|error| {
            tracing::error!(
                component = component.id(),
                error = format!("{error:#}"),
                "cannot create an instance"
            );
            HostError::NotLoaded
        })
    }

    /// Runs a guest until it ends, then releases its permit. Fails if the guest is given up.
    fn until_end(
        &self,
        execution: Execution,
        guest: impl Future<Output = ()> + Send + 'static,
        usage: Arc<Usage>,
        permit: Arc<Permit>,
        failure: GuestFailure,
    ) -> Pin<Box<dyn Future<Output = Result<(), CpuLimitExceeded>> + Send>> {
        match execution {
            Execution::Inline => Box::pin(async move {
                guest.await;
                permit.end();
                Ok(())
            }),
            Execution::OwnThread => {
                let cancelled = CancellationToken::new();
                let running = self.running.token();
                let guest = async move {
                    let _running = running;
                    guest.await;
                };
                let ended = guest_thread::start(guest, cancelled.clone());
                let cancel = cancelled.drop_guard();
                Box::pin(async move {
                    let _cancel = cancel;
                    let _ = ended.await;
                    permit.end();
                    Ok(())
                })
            }
            Execution::Watched => {
                let watched = self.watchdog.run(&self.running, guest, usage, permit);
                let limit = self.limits.request_cpu;
                Box::pin(async move {
                    let ended = watched.ended().await;
                    if ended.is_err() {
                        let _ = failure.set(HostError::CpuLimit { limit });
                    }
                    ended
                })
            }
        }
    }

    /// Relays the guest's reply: the header through `response_tx`, then the body.
    async fn relay(
        self: Arc<Self>,
        method: Method,
        reply_rx: oneshot::Receiver<GuestReply>,
        response_tx: oneshot::Sender<GuestReply>,
        failure: GuestFailure,
        deadline: Arc<Deadline>,
    ) -> RelayEnd {
        let response = match reply_rx.await {
            Ok(Ok(response)) => response,
            Ok(error) => {
                let _ = response_tx.send(error);
                return RelayEnd::Complete;
            }
            Err(_) => return RelayEnd::Complete,
        };
        deadline.extend();
        let (response, relay) = relay::split(response, &method, &self.replies);
        match response_tx.send(Ok(response)) {
            Ok(()) => relay.run(&deadline, || failure.get().is_some()).await,
            Err(_) => RelayEnd::ClientGone,
        }
    }
}

/// A guest that is about to be called.
struct GuestCall {
    component: Arc<LoadedComponent>,
    store: Store<InstanceState>,
    limits: Limits,
    metrics: Arc<Metrics>,
    failure: GuestFailure,
}

impl GuestCall {
    /// Instantiates the guest and runs it to its end. If it fails, the reason is set before the store is dropped, which
    /// ends the reply's body.
    async fn run(mut self, request: Request<WasiBody>, reply: ReplySender) {
        let started = Instant::now();
        let on_instantiated = || self.metrics.instantiate.observe(seconds(started.elapsed()));
        let called = self.component.run(&mut self.store, request, reply, on_instantiated);
        let error = match catch_panic(called).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                classify(&error, self.store.data(), &self.limits, self.component.id())
            }
            Err(panicked) => panicked,
        };
        let _ = self.failure.set(error);
    }
}

/// Runs a guest and the relay of its reply to completion. Stops the guest if the client disconnects, and the relay if
/// the guest is given up.
async fn run_both(
    guest: impl Future<Output = Result<(), CpuLimitExceeded>>,
    relay: impl Future<Output = RelayEnd>,
) -> RelayEnd {
    let (mut guest, mut relay) = (std::pin::pin!(guest), std::pin::pin!(relay));
    tokio::select! {
        ended = &mut guest => {
            if ended.is_ok() {
                relay.await;
            }
        }
        end = &mut relay => match end {
            RelayEnd::Complete => {
                let _ = guest.await;
            }
            RelayEnd::ClientGone => return RelayEnd::ClientGone,
        },
    }
    RelayEnd::Complete
}

/// Counts what a guest has used when it has ended, however it ends.
struct UsageGuard {
    metrics: Arc<Metrics>,
    usage: Arc<Usage>,
}

impl Drop for UsageGuard {
    fn drop(&mut self) {
        self.metrics.guest.observe(seconds(self.usage.cpu()));
        self.metrics.memory_peak.observe(self.usage.memory_peak());
    }
}

/// Counts the failure of a guest, if there is one, when dropped.
struct FailureGuard {
    metrics: Arc<Metrics>,
    failure: GuestFailure,
    end: RelayEnd,
}

impl FailureGuard {
    fn new(metrics: &Arc<Metrics>) -> Self {
        // The default, unless `complete` is called.
        let end = RelayEnd::ClientGone;
        Self { metrics: Arc::clone(metrics), failure: GuestFailure::default(), end }
    }

    fn complete(&mut self, end: RelayEnd) {
        self.end = end;
    }
}

impl Drop for FailureGuard {
    fn drop(&mut self) {
        let reason = match (self.failure.get(), self.end) {
            (Some(error), _) => error.code(),
            (None, RelayEnd::ClientGone) => "client_gone",
            (None, RelayEnd::Complete) => return,
        };
        self.metrics.count_guest_failure(reason);
    }
}

fn classify(
    error: &wasmtime::Error,
    state: &InstanceState,
    limits: &Limits,
    id: &str,
) -> HostError {
    tracing::error!(component = id, error = format!("{error:#}"), "the guest failed");
    if error.downcast_ref::<CpuLimitExceeded>().is_some() {
        HostError::CpuLimit { limit: limits.request_cpu }
    } else if let Some(ResourceTableError::Full) = error.downcast_ref() {
        HostError::HandleLimit { limit: MAX_RESOURCES }
    } else if state.memory_limit_was_hit() {
        HostError::MemoryLimit { limit: limits.instance_memory }
    } else {
        HostError::Trap
    }
}
