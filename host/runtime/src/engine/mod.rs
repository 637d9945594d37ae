//! The wasmtime engines: pooled memories, copy-on-write images, and an epoch clock that stops guests.

mod isolated_imports;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime_wasi_http::WasiHttpView;

use crate::compile::{code_cache, precompile, prepare};
use crate::engine_config::engine_config;
use crate::loaded::{EntryPoint, LoadedComponent, ServiceChainingCell, SharedResources};
use crate::neural_network::{self, NnGrant};
use crate::outbound_http::{OutboundPermits, ServiceChaining};
use crate::release_candidates::{http_2023_10_18, http_2023_11_10, sockets_2023};
use crate::state::InstanceState;
use spotter_app::component_manifest::Interruption;
use spotter_app::mounts::MountOptions;
use spotter_app::nn_engine::NnEngine;
use spotter_app::runtime_options::{Allocation, RuntimeOptions};
use spotter_app::{Component, check};
use spotter_config::Limits;
use spotter_interfaces::key_value::store::KeyValueStores;
use spotter_interfaces::sqlite::{self, NO_DEFAULT_DATABASE, SqliteDatabases};
use spotter_interfaces::{key_value, mqtt, postgres, redis, unsupported, variables};
use spotter_nn::{self as nn, Graph, NnMetrics};

/// How often a running guest is interrupted: the precision of its limit on CPU time.
pub const EPOCH_INTERVAL: Duration = Duration::from_millis(10);

/// The loaded components, and the engines that run them.
pub struct Runtime {
    limits: Limits,
    allocation: Allocation,
    mounts: MountOptions,
    /// The engines, by how their code is interrupted; each is started when the first component needs it.
    executors: BTreeMap<Interruption, EngineAndLinker>,
    components: BTreeMap<String, Arc<LoadedComponent>>,
    key_value_stores: KeyValueStores,
    /// `None` if no component uses a SQLite database.
    sqlite: Option<SqliteDatabases>,
    siblings: ServiceChainingCell,
    outbound: OutboundPermits,
    /// By the folders of their models.
    graphs: BTreeMap<PathBuf, Arc<dyn Graph>>,
    nn_metrics: NnMetrics,
}

/// An engine, and what components can import.
struct EngineAndLinker {
    engine: Engine,
    linker: Linker<InstanceState>,
}

impl EngineAndLinker {
    /// Creates an engine. Starts its epoch clock, if its code is interrupted by epochs.
    fn new(
        limits: &Limits,
        interruption: Interruption,
        allocation: Allocation,
    ) -> anyhow::Result<Self> {
        let engine = match allocation {
            Allocation::Pooled => pooling_engine(limits, interruption)?,
            Allocation::OnDemand => on_demand_engine(limits, interruption)?,
        };
        if interruption == Interruption::Epoch {
            start_epoch_clock(&engine)?;
        }
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        http_2023_10_18::add_to_linker(&mut linker, InstanceState::http)?;
        http_2023_11_10::add_to_linker(&mut linker, InstanceState::http)?;
        sockets_2023::add_to_linker(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        variables::add_to_linker(&mut linker, InstanceState::variables)?;
        key_value::add_to_linker(&mut linker, InstanceState::key_value)?;
        key_value::version_3::add_to_linker(&mut linker, InstanceState::key_value)?;
        sqlite::add_to_linker(&mut linker, InstanceState::sqlite)?;
        redis::add_to_linker(&mut linker, InstanceState::redis)?;
        mqtt::add_to_linker(&mut linker, InstanceState::mqtt)?;
        postgres::add_to_linker(&mut linker, InstanceState::postgres)?;
        neural_network::add_to_linker(&mut linker, InstanceState::nn)?;
        Ok(Self { engine, linker })
    }
}

impl Runtime {
    /// A runtime without components. Key-value stores that the options keep in Redis are not connected to yet.
    pub fn new(limits: &Limits, options: &RuntimeOptions) -> Self {
        let mut key_value_stores = KeyValueStores::default();
        for (label, server) in &options.redis_stores {
            key_value_stores.use_redis(label, server.clone());
        }
        Self {
            limits: *limits,
            allocation: options.allocation,
            mounts: options.mounts.clone(),
            executors: BTreeMap::new(),
            components: BTreeMap::new(),
            key_value_stores,
            sqlite: None,
            siblings: Arc::default(),
            outbound: OutboundPermits::new(options.max_outbound_requests),
            graphs: BTreeMap::new(),
            nn_metrics: NnMetrics::default(),
        }
    }

    /// Opens the key-value database, whose stores hold up to `max_store_bytes` each. Call it before
    /// [`Runtime::load`].
    ///
    /// # Errors
    /// If the database cannot be opened, or another process has opened it.
    pub fn open_database(&mut self, path: &Path, max_store_bytes: u64) -> anyhow::Result<()> {
        self.key_value_stores.open_database(path, max_store_bytes)
    }

    /// Sets a value in the application's default store.
    ///
    /// # Errors
    /// If no component uses a key-value store, or the value cannot be written.
    pub async fn set_key_value(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.key_value_stores.set_default(key, value).await
    }

    /// Keeps SQLite databases in these files, by name. Call it before [`Runtime::load`].
    ///
    /// # Errors
    /// If the folder of a file cannot be created.
    pub fn use_sqlite(&mut self, files: BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
        let Limits { sqlite_size, request_cpu, .. } = self.limits;
        self.sqlite = Some(SqliteDatabases::new(files, sqlite_size, request_cpu)?);
        Ok(())
    }

    /// Runs SQL statements on the application's default database.
    ///
    /// # Errors
    /// If no component uses a database, or a statement fails.
    pub fn run_sql(&self, statements: &str) -> anyhow::Result<()> {
        let databases = self.sqlite.as_ref();
        databases.context(NO_DEFAULT_DATABASE)?.run_at_start(statements)
    }

    /// The metrics of networks that the host runs for guests.
    pub fn nn_metrics(&self) -> &NnMetrics {
        &self.nn_metrics
    }

    /// Loads a component, from the cache if it is there, and the networks that it uses.
    ///
    /// # Errors
    /// If the file is not a component, imports an interface that the host does not provide, or does not export what
    /// its executor calls.
    pub fn load(&mut self, component: &Component, nn_engine: &NnEngine) -> anyhow::Result<()> {
        let id = &component.id;
        let executor = match self.executors.entry(component.interruption) {
            Entry::Occupied(started) => started.into_mut(),
            Entry::Vacant(vacant) => {
                let Self { limits, allocation, .. } = self;
                vacant.insert(EngineAndLinker::new(limits, component.interruption, *allocation)?)
            }
        };
        let compiled = match &component.compiled {
            Some(file) => match code_cache::open(&executor.engine, file) {
                Ok(compiled) => compiled,
                Err(reason) => precompile::compile_here(&executor.engine, component, &reason)?,
            },
            // A file that is a component by itself was checked before it was compiled.
            None => match code_cache::get(&executor.engine, &component.source) {
                Ok(Some(compiled)) if component.dependencies.is_empty() => compiled,
                _ => code_cache::load(&executor.engine, &prepare::component(component)?, id)?,
            },
        };
        let uses_nn =
            compiled.component_type().imports(&executor.engine).any(|(name, _)| check::is_nn(name));
        let mut linker = executor.linker.clone();
        unsupported::add_to_linker(&mut linker, &executor.engine, &compiled)?;
        isolated_imports::add_to_linker(&mut linker, &executor.engine, &compiled)?;
        let linked =
            linker.instantiate_pre(&compiled).map_err(anyhow::Error::from).with_context(|| {
                format!("component `{id}` has an import that the host does not provide")
            })?;
        let entry = EntryPoint::new(linked, &component.executor)
            .with_context(|| format!("component `{id}`"))?;
        let engine = executor.engine.clone();
        let graphs = if uses_nn { self.graphs(component, nn_engine)? } else { BTreeMap::new() };
        let shared = SharedResources {
            key_value_stores: Arc::new(self.key_value_stores.clone()),
            sqlite: self.sqlite.clone(),
            siblings: Arc::clone(&self.siblings),
            outbound: self.outbound.clone(),
            nn: NnGrant::new(graphs, self.nn_metrics.clone()),
        };
        let loaded = LoadedComponent::new(component, &engine, entry, shared, &self.mounts)
            .with_context(|| format!("component `{id}`"))?;
        self.components.insert(id.clone(), Arc::new(loaded));
        Ok(())
    }

    /// Loads the networks that a component may use, each once.
    fn graphs(
        &mut self,
        component: &Component,
        engine: &NnEngine,
    ) -> anyhow::Result<BTreeMap<String, Arc<dyn Graph>>> {
        let mut granted = BTreeMap::new();
        for (name, folder) in &component.models {
            let folder = folder.as_ref().with_context(|| {
                format!(
                    "component `{}`: `ai_models` grants `{name}`, but no folder is given for it; add \
                     --model {name}=FOLDER",
                    component.id
                )
            })?;
            let graph = match self.graphs.get(folder) {
                Some(graph) => Arc::clone(graph),
                None => nn::load(folder, engine).with_context(|| format!("the model `{name}`"))?,
            };
            self.graphs.insert(folder.clone(), Arc::clone(&graph));
            granted.insert(name.clone(), graph);
        }
        Ok(granted)
    }

    /// Sets the server through which guests call each other. Only the first call has an effect.
    pub fn connect(&self, siblings: Weak<dyn ServiceChaining>) {
        let _ = self.siblings.set(siblings);
    }

    /// The loaded component `id`.
    pub fn component(&self, id: &str) -> Option<&Arc<LoadedComponent>> {
        self.components.get(id)
    }
}

/// An engine that reserves nothing for instances. What it compiles, other engines with this interruption can run.
///
/// # Errors
/// If wasmtime rejects the configuration.
pub fn on_demand_engine(limits: &Limits, interruption: Interruption) -> anyhow::Result<Engine> {
    let engine = Engine::new(&engine_config(limits, interruption, Allocation::OnDemand));
    engine.map_err(anyhow::Error::from).context("cannot start wasmtime")
}

fn pooling_engine(limits: &Limits, interruption: Interruption) -> anyhow::Result<Engine> {
    Engine::new(&engine_config(limits, interruption, Allocation::Pooled)).or_else(|error| {
        // The pool reserves its whole address space at once, which some sandboxes do not allow.
        tracing::info!(%error, "cannot reserve memory for a pool of instances; each is allocated on demand");
        on_demand_engine(limits, interruption)
    })
}

fn start_epoch_clock(engine: &Engine) -> anyhow::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("epoch".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                std::thread::sleep(EPOCH_INTERVAL);
                engine.increment_epoch();
            }
        })
        .context("cannot start the clock that stops guests")?;
    Ok(())
}
