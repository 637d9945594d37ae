//! The flags of `spotter up` for how components are run, and the runtime configuration's tables for where their data
//! is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use spotter_app::App;
use spotter_app::mounts::{MountOptions, MountStrategy};
use spotter_app::runtime_options::{Allocation, RuntimeOptions};
use spotter_config::key_value_stores::KeyValueStores;
use spotter_config::outbound_http::OutboundHttp;
use spotter_config::sqlite_databases::SqliteDatabase;
use spotter_config::suggest;

/// The flags for how components are run.
#[derive(Args)]
pub(crate) struct RuntimeArguments {
    /// Where to make copies of components' `files` [default: the folder in TMPDIR, or /tmp]
    #[arg(long, alias = "tmp", value_name = "FOLDER")]
    temp: Option<PathBuf>,
    /// Let components read the folders in their `files` directly instead of copies, so that they see changes at once
    #[arg(long, conflicts_with = "allow_transient_write")]
    direct_mounts: bool,
    /// Let components change the copies of their `files`, which are removed when the application stops
    #[arg(long)]
    allow_transient_write: bool,
    /// Allocate each instance on demand instead of from a pool
    #[arg(long)]
    disable_pooling: bool,
}

/// The tables of the runtime configuration that say where data is kept, and how it is reached.
pub(crate) struct RuntimeTables {
    pub(crate) key_value_store: KeyValueStores,
    pub(crate) sqlite_database: BTreeMap<String, SqliteDatabase>,
    pub(crate) outbound_http: OutboundHttp,
}

impl RuntimeArguments {
    /// How to mount components' files.
    pub(crate) fn mounts(&self) -> MountOptions {
        let strategy = match (self.direct_mounts, self.allow_transient_write) {
            (true, _) => MountStrategy::InPlace,
            (false, true) => MountStrategy::WritableCopies,
            (false, false) => MountStrategy::ReadOnlyCopies,
        };
        MountOptions { strategy, temporary_folder: self.temp.clone() }
    }

    /// How to run an application. Warns of stores and databases that no component uses: their names may be misspelt,
    /// and those that are meant would be below the folder of the application's state.
    pub(crate) fn options(&self, app: &App, tables: RuntimeTables) -> RuntimeOptions {
        let RuntimeTables { key_value_store, sqlite_database, outbound_http } = tables;
        for name in key_value_store.names() {
            warn_if_unused("key_value_store", name, "key_value_stores", app.key_value_stores());
        }
        for name in sqlite_database.keys() {
            warn_if_unused("sqlite_database", name, "sqlite_databases", app.sqlite_databases());
        }
        let sqlite_files = sqlite_database.into_iter();
        RuntimeOptions {
            redis_stores: key_value_store.into_redis(),
            sqlite_files: sqlite_files.map(|(name, database)| (name, database.path)).collect(),
            max_outbound_requests: outbound_http.max_connections,
            mounts: self.mounts(),
            allocation: match self.disable_pooling {
                true => Allocation::OnDemand,
                false => Allocation::Pooled,
            },
        }
    }
}

fn warn_if_unused<'a>(
    table: &str,
    name: &str,
    key: &str,
    used: impl Iterator<Item = &'a str> + Clone,
) {
    if used.clone().any(|used| used == name) {
        return;
    }
    let near = suggest::nearest(name, used);
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    tracing::warn!(
        "[{table}.{name}] in the runtime configuration has no effect: no component has {name:?} in its `{key}`{hint}"
    );
}
