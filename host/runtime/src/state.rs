//! The host state of one instance, and its limits.

use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::limits::memory_limit::MemoryLimit;
use crate::neural_network::{NnGrant, NnView};
use crate::outbound_http::Outbound;
use spotter_interfaces::key_value::{KeyValueGrant, KeyValueView};
use spotter_interfaces::mqtt::MqttView;
use spotter_interfaces::outbound_tcp::OutboundTcp;
use spotter_interfaces::postgres::PostgresView;
use spotter_interfaces::redis::RedisView;
use spotter_interfaces::sqlite::{SqliteGrant, SqliteView};
use spotter_interfaces::variables::Variables;

/// The host state of an instance, available to host functions.
pub struct InstanceState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    grants: Grants,
    memory: MemoryLimit,
    request_cpu: Duration,
}

/// What one instance may use in addition to WASI.
pub(super) struct Grants {
    pub(super) outbound: Outbound,
    pub(super) variables: Variables,
    pub(super) key_value: KeyValueGrant,
    pub(super) sqlite: SqliteGrant,
    pub(super) outbound_tcp: OutboundTcp,
    pub(super) nn: NnGrant,
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.grants.outbound,
        }
    }
}

/// How many resource handles one instance may have at once. Each takes memory in the host, up to
/// [`MAX_HEADER_FIELDS_BYTES`].
pub const MAX_RESOURCES: usize = 1024;
/// The largest set of header fields that a guest may build, in bytes.
const MAX_HEADER_FIELDS_BYTES: usize = 64 << 10;
/// How many tasks, streams and futures of WASI 0.3 one instance may have at once.
const MAX_CONCURRENT_TASKS: usize = 16 << 10;
/// The most that a guest may pass to the host in one call, in bytes.
const MAX_HOST_CALL_BYTES: usize = 16 << 20;

impl InstanceState {
    /// The state of a new instance with this WASI context and these grants.
    pub(super) fn new(
        wasi: WasiCtx,
        grants: Grants,
        memory: MemoryLimit,
        request_cpu: Duration,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_HEADER_FIELDS_BYTES);
        Self { wasi, http, table, grants, memory, request_cpu }
    }

    /// Moves the state into a store that enforces its limits on memory.
    pub(super) fn into_store(self, engine: &Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(MAX_HOST_CALL_BYTES);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(MAX_CONCURRENT_TASKS);
        }
        store
    }

    pub(super) fn key_value(&mut self) -> KeyValueView<'_> {
        KeyValueView { table: &mut self.table, grant: &self.grants.key_value }
    }

    pub(super) fn sqlite(&mut self) -> SqliteView<'_> {
        SqliteView { table: &mut self.table, grant: &self.grants.sqlite }
    }

    pub(super) fn redis(&mut self) -> RedisView<'_> {
        RedisView { table: &mut self.table, outbound: &self.grants.outbound_tcp }
    }

    pub(super) fn mqtt(&mut self) -> MqttView<'_> {
        MqttView { table: &mut self.table, outbound: &self.grants.outbound_tcp }
    }

    pub(super) fn postgres(&mut self) -> PostgresView<'_> {
        PostgresView { table: &mut self.table, outbound: &self.grants.outbound_tcp }
    }

    pub(super) fn nn(&mut self) -> NnView<'_> {
        NnView {
            table: &mut self.table,
            grant: &self.grants.nn,
            memory: &mut self.memory,
            request_cpu: self.request_cpu,
        }
    }

    /// Replaces the WASI context that the instance is to start with.
    pub(super) fn set_wasi(&mut self, wasi: WasiCtx) {
        self.wasi = wasi;
    }

    pub(super) fn variables(&mut self) -> &mut Variables {
        &mut self.grants.variables
    }

    /// Whether the guest was refused memory beyond its limit.
    pub fn memory_limit_was_hit(&self) -> bool {
        self.memory.is_exceeded()
    }
}
