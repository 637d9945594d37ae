//! The host state of one instance, and its limits.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::key_value::{KeyValueGrant, KeyValueView};
use super::outbound::Outbound;
use super::usage::Usage;
use super::variables::Variables;

/// The host state of an instance, available to host functions.
pub struct InstanceState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outbound: Outbound,
    variables: Variables,
    key_value: KeyValueGrant,
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

/// The guest used more processor time than `request_cpu` allows.
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

impl InstanceState {
    /// The state of a new instance with this WASI context and these host interfaces.
    pub(super) fn new(
        wasi: WasiCtx,
        outbound: Outbound,
        variables: Variables,
        key_value: KeyValueGrant,
        memory: MemoryLimit,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELD_BYTES);
        Self { wasi, http, table, outbound, variables, key_value, memory }
    }

    /// Moves the state into a store that enforces its limits on memory, and this one on processor time.
    pub(super) fn into_store(
        self,
        engine: &Engine,
        request_cpu: Duration,
        usage: Arc<Usage>,
    ) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if usage.cpu() > request_cpu {
                return Err(wasmtime::Error::new(CpuLimitExceeded));
            }
            // Let the server's own tasks and other guests run.
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    pub(super) fn key_value(&mut self) -> KeyValueView<'_> {
        KeyValueView { table: &mut self.table, grant: &self.key_value }
    }

    pub(super) fn variables(&mut self) -> &mut Variables {
        &mut self.variables
    }

    /// Whether the guest was refused memory beyond its limit.
    pub fn memory_limit_was_hit(&self) -> bool {
        self.memory.exceeded
    }
}

/// Limits the total size of an instance's memories: a component may have several.
pub(super) struct MemoryLimit {
    limit_bytes: u64,
    total: u64,
    exceeded: bool,
    usage: Arc<Usage>,
}

impl MemoryLimit {
    pub(super) fn new(limit_bytes: u64, usage: Arc<Usage>) -> Self {
        Self { limit_bytes, total: 0, exceeded: false, usage }
    }
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
        self.usage.record_memory(total);
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
