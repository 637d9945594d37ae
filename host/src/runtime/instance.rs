//! One instance for one request: its state, its limits, and the processor time that it uses.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::engine::Loaded;
use super::key_value::KeyValueDatabase;
use super::outbound::Outbound;
use super::variables::Values;
use crate::config::Limits;

/// The host state of an instance, available to host functions.
pub struct InstanceState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outbound: Outbound,
    variables: Values,
    /// The application's key-value database, and the stores that this component may open.
    key_value: (Option<KeyValueDatabase>, Arc<[String]>),
    memory: MemoryLimit,
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// The guest used more processor time than [`Limits::request_cpu`].
#[derive(Debug)]
pub struct CpuLimitExceeded;

impl std::fmt::Display for CpuLimitExceeded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the guest exceeded its limit on processor time")
    }
}

impl std::error::Error for CpuLimitExceeded {}

/// How many resource handles one instance may have at once. Each takes memory in the host.
const MAX_RESOURCES: usize = 4096;
/// The largest set of header fields that a guest may build, in bytes.
const MAX_FIELD_BYTES: usize = 64 << 10;

/// Creates the store for one instance. `used` counts what it uses: wrap the future that runs the guest in
/// [`Metered`] with the same counter. `hops` is the depth of calls between guests.
pub fn store(
    engine: &Engine,
    wasi: WasiCtx,
    component: &Loaded,
    limits: &Limits,
    used: Arc<Usage>,
    hops: u32,
) -> Store<InstanceState> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_RESOURCES);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(MAX_FIELD_BYTES);
    let state = InstanceState {
        wasi,
        http,
        table,
        outbound: component.outbound(hops),
        variables: component.variables(),
        key_value: component.key_value(),
        memory: MemoryLimit {
            limit_bytes: limits.instance_memory,
            total: 0,
            exceeded: false,
            used: Arc::clone(&used),
        },
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    let limit = limits.request_cpu;
    store.epoch_deadline_callback(move |_| {
        if used.cpu() > limit {
            return Err(wasmtime::Error::new(CpuLimitExceeded));
        }
        // Let the server's own tasks and other guests run.
        Ok(UpdateDeadline::Yield(1))
    });
    store
}

impl InstanceState {
    pub(super) fn key_value(&self) -> (Option<&KeyValueDatabase>, &[String]) {
        (self.key_value.0.as_ref(), &self.key_value.1)
    }

    pub(super) fn table_mut(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// The values of the component's variables.
    pub(super) fn variables(&self) -> &Values {
        &self.variables
    }

    /// Whether the guest was refused memory beyond its limit.
    pub fn memory_limit_was_hit(&self) -> bool {
        self.memory.exceeded
    }
}

/// Limits the total size of an instance's memories: a component may have several.
struct MemoryLimit {
    limit_bytes: u64,
    total: u64,
    exceeded: bool,
    used: Arc<Usage>,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.total + desired.saturating_sub(current) as u64;
        if total > self.limit_bytes {
            self.exceeded = true;
            return Ok(false);
        }
        self.total = total;
        self.used.memory_peak.fetch_max(total, Ordering::Relaxed);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 1_000_000)
    }
}

/// The processor time and memory that one guest uses.
#[derive(Debug, Default)]
pub struct Usage {
    cpu_nanos: AtomicU64,
    /// The start of the current poll, by its thread's clock, plus one; 0 between polls.
    running_since: AtomicU64,
    memory_peak: AtomicU64,
}

impl Usage {
    pub fn start() -> Arc<Self> {
        Arc::default()
    }

    /// The guest's peak linear memory, in bytes.
    #[allow(clippy::cast_precision_loss, reason = "memories are far below 2^53 bytes")]
    pub fn memory_peak(&self) -> f64 {
        self.memory_peak.load(Ordering::Relaxed) as f64
    }

    /// The processor time so far. Includes the current poll only if called on its thread.
    pub fn cpu(&self) -> Duration {
        let running = match self.running_since.load(Ordering::Relaxed) {
            0 => 0,
            since => thread_nanos().saturating_sub(since),
        };
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed) + running)
    }
}

/// This thread's processor time so far, in nanoseconds, plus one.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs() + 1
}

/// Counts the processor time of a future's polls as its guest's.
pub struct Metered<F> {
    future: Pin<Box<F>>,
    used: Arc<Usage>,
}

impl<F: Future> Metered<F> {
    pub fn new(future: F, used: Arc<Usage>) -> Self {
        Self { future: Box::pin(future), used }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let began = thread_nanos();
        self.used.running_since.store(began, Ordering::Relaxed);
        let polled = self.future.as_mut().poll(context);
        self.used.running_since.store(0, Ordering::Relaxed);
        let spent = thread_nanos().saturating_sub(began);
        self.used.cpu_nanos.fetch_add(spent, Ordering::Relaxed);
        polled
    }
}
