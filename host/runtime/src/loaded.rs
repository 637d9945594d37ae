//! A component that is ready to serve: compiled and linked, with the resources that its instances may use.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use http::Request;
use tokio::sync::Semaphore;
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};
use wasmtime_wasi_http::WasiBody;

use crate::command::Command;
use crate::guest_log::GuestLog;
use crate::handler::{Handler, ReplySender};
use crate::limits::cpu_limit;
use crate::limits::memory_limit::MemoryLimit;
use crate::limits::usage::Usage;
use crate::neural_network::NnGrant;
use crate::outbound_http::{BodyMemory, Outbound, OutboundPermits, ServiceChaining};
use crate::state::{Grants, InstanceState};
use spotter_app::Component;
use spotter_app::allowed_hosts::AllowedHosts;
use spotter_app::component_manifest::Interruption;
use spotter_app::mounts::{self, Access, Mount, MountOptions};
use spotter_app::triggers::Executor;
use spotter_config::Limits;
use spotter_interfaces::key_value::KeyValueGrant;
use spotter_interfaces::key_value::store::KeyValueStores;
use spotter_interfaces::outbound_tcp::{self, OutboundTcp};
use spotter_interfaces::sqlite::{SqliteDatabases, SqliteGrant};
use spotter_interfaces::variables::Variables;

/// The most random bytes that a guest gets in one call.
const MAX_RANDOM_BYTES: u64 = 16 << 20;

/// How many connections that are not HTTP one instance may have at once.
const MAX_CONNECTIONS_PER_INSTANCE: usize = 8;

/// The server through which guests reach other components, set once it exists.
pub(super) type ServiceChainingCell = Arc<OnceLock<Weak<dyn ServiceChaining>>>;

/// The runtime's resources that a component uses.
pub(super) struct SharedResources {
    pub(super) key_value_stores: Arc<KeyValueStores>,
    /// `None` if no component uses a SQLite database.
    pub(super) sqlite: Option<SqliteDatabases>,
    pub(super) siblings: ServiceChainingCell,
    pub(super) outbound: OutboundPermits,
    /// The networks that this component may use.
    pub(super) nn: NnGrant,
}

/// The part of a component that handles a request.
pub(super) enum EntryPoint {
    Http(Handler),
    Command(Command),
}

impl EntryPoint {
    /// Finds what the executor calls.
    ///
    /// # Errors
    /// If the component does not export it.
    pub(super) fn new(
        linked: InstancePre<InstanceState>,
        executor: &Executor,
    ) -> anyhow::Result<Self> {
        match executor {
            Executor::Http => Ok(Self::Http(Handler::from_instance_pre(linked)?)),
            Executor::Wagi { argv } => Ok(Self::Command(Command::new(linked, argv)?)),
        }
    }
}

/// One loaded component.
pub struct LoadedComponent {
    id: String,
    engine: Engine,
    interruption: Interruption,
    entry: EntryPoint,
    environment: BTreeMap<String, String>,
    variables: Variables,
    allowed_hosts: Arc<AllowedHosts>,
    key_value: KeyValueGrant,
    sqlite: SqliteGrant,
    nn: NnGrant,
    siblings: ServiceChainingCell,
    outbound: OutboundPermits,
    mounts: Vec<Mount>,
}

impl LoadedComponent {
    /// # Errors
    /// If the component's files cannot be mounted.
    pub(super) fn new(
        component: &Component,
        engine: &Engine,
        entry: EntryPoint,
        shared: SharedResources,
        mounts: &MountOptions,
    ) -> anyhow::Result<Self> {
        let Component { root, files, exclude_files, .. } = component;
        let mounts = mounts::mount(root, files, exclude_files, mounts)?;
        Ok(Self {
            id: component.id.clone(),
            engine: engine.clone(),
            interruption: component.interruption,
            entry,
            environment: component.environment.clone(),
            variables: Variables::new(component.variables.clone()),
            allowed_hosts: Arc::new(component.allowed_hosts.clone()),
            key_value: KeyValueGrant::new(shared.key_value_stores, &component.key_value_stores),
            sqlite: SqliteGrant::new(shared.sqlite, &component.sqlite_databases),
            nn: shared.nn,
            siblings: shared.siblings,
            outbound: shared.outbound,
            mounts,
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// How its instances are stopped.
    pub fn interruption(&self) -> Interruption {
        self.interruption
    }

    /// Whether it is granted a network, which the host computes for it.
    pub fn may_run_networks(&self) -> bool {
        !self.nn.is_empty()
    }

    /// Whether it reads a request's body only as a whole, and is to start when the body is complete.
    pub fn needs_whole_body(&self) -> bool {
        matches!(self.entry, EntryPoint::Command(_))
    }

    /// Creates an instance in `store` without running a request.
    ///
    /// # Errors
    /// If there is no free slot in the pool, or the instance fails to start.
    pub async fn instantiate(&self, store: &mut Store<InstanceState>) -> wasmtime::Result<()> {
        match &self.entry {
            EntryPoint::Http(handler) => handler.instantiate(store).await,
            EntryPoint::Command(command) => command.instantiate(store).await,
        }
    }

    /// Creates an instance in `store`, calls `on_instantiated`, and runs the instance until it has finished.
    ///
    /// # Errors
    /// If the guest fails or exceeds a limit, or the request cannot be passed to it.
    pub async fn run(
        &self,
        store: &mut Store<InstanceState>,
        request: Request<WasiBody>,
        reply: ReplySender,
        on_instantiated: impl FnOnce(),
    ) -> wasmtime::Result<()> {
        match &self.entry {
            EntryPoint::Http(handler) => handler.run(store, request, reply, on_instantiated).await,
            EntryPoint::Command(command) => {
                let mut wasi = self.wasi().map_err(wasmtime::Error::from_anyhow)?;
                let output = command.connect(&mut wasi, &self.environment, request, reply);
                store.data_mut().set_wasi(wasi.build());
                command.run(store, &output, on_instantiated).await
            }
        }
    }

    /// Creates the store for one instance. `usage` counts what it uses: wrap the future that runs the guest in
    /// [`Metered`](super::usage::Metered) with the same counter. `hops` is the depth of calls between guests.
    ///
    /// # Errors
    /// If the folder of its files no longer exists.
    pub fn store(
        &self,
        limits: &Limits,
        usage: Arc<Usage>,
        hops: u32,
    ) -> anyhow::Result<Store<InstanceState>> {
        let grants = Grants {
            outbound: self.outbound(hops),
            variables: self.variables.clone(),
            key_value: self.key_value.for_instance(),
            sqlite: self.sqlite.for_instance(),
            outbound_tcp: self.outbound_tcp(),
            nn: self.nn.clone(),
        };
        let memory = MemoryLimit::new(limits.instance_memory, Arc::clone(&usage));
        let state = InstanceState::new(self.wasi()?.build(), grants, memory, limits.request_cpu);
        let mut store = state.into_store(&self.engine);
        if self.interruption == Interruption::Epoch {
            cpu_limit::limit(&mut store, limits.request_cpu, usage);
        }
        Ok(store)
    }

    /// The outgoing requests of an instance at a depth of `hops` calls between guests.
    fn outbound(&self, hops: u32) -> Outbound {
        Outbound {
            allowed: Arc::clone(&self.allowed_hosts),
            component: self.id.clone(),
            siblings: self.siblings.get().cloned(),
            hops,
            permits: self.outbound.clone(),
            bodies: BodyMemory::new(),
        }
    }

    /// The connections of an instance that are not HTTP.
    fn outbound_tcp(&self) -> OutboundTcp {
        OutboundTcp {
            allowed: Arc::clone(&self.allowed_hosts),
            component: self.id.clone(),
            connections: self.outbound.connections(),
            own_connections: Arc::new(Semaphore::new(MAX_CONNECTIONS_PER_INSTANCE)),
        }
    }

    /// The WASI context of an instance: its environment, its files and its log.
    fn wasi(&self) -> anyhow::Result<WasiCtxBuilder> {
        let mut wasi = WasiCtx::builder();
        wasi.max_random_size(MAX_RANDOM_BYTES);
        wasi.stdout(GuestLog::new(&self.id, "stdout")).stderr(GuestLog::new(&self.id, "stderr"));
        wasi.allow_udp(false);
        wasi.allow_tcp(self.allowed_hosts.permits_scheme(outbound_tcp::TCP_SCHEME));
        if self.allowed_hosts.permits_scheme(outbound_tcp::TCP_SCHEME) {
            let allowed = Arc::clone(&self.allowed_hosts);
            wasi.allow_ip_name_lookup(true);
            wasi.socket_addr_check(move |address, usage| {
                let allowed = Arc::clone(&allowed);
                Box::pin(
                    async move { outbound_tcp::permits_socket(&allowed, address, usage).await },
                )
            });
        }
        for (name, value) in &self.environment {
            wasi.env(name, value);
        }
        for mount in &self.mounts {
            let permissions = match mount.access {
                Access::ReadOnly => FsPerms::ReadOnly,
                Access::ReadWrite => FsPerms::ReadWrite,
            };
            wasi.preopened_dir(mount.folder(), &mount.guest_path, permissions)?;
        }
        Ok(wasi)
    }
}
