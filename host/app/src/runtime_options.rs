//! How the host runs an application's components, as the flags of `spotter up` and the runtime configuration file say:
//! where their data is kept, and how they are allocated. The limits are in `spotter-config`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use spotter_config::redis_server::RedisServer;

use crate::mounts::MountOptions;

/// The options. The default ones need neither flags nor a file.
#[derive(Clone, Debug, Default)]
pub struct RuntimeOptions {
    /// The key-value stores that are in Redis, by name. The others are below the folder of the application's state.
    pub redis_stores: BTreeMap<String, RedisServer>,
    /// The files of SQLite databases that are not below this folder, by name.
    pub sqlite_files: BTreeMap<String, PathBuf>,
    /// How many outgoing HTTP requests may be in flight at once, if there is a limit of its own for them.
    pub max_outbound_requests: Option<usize>,
    pub mounts: MountOptions,
    pub allocation: Allocation,
}

/// How an engine allocates instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool that is reserved when the engine starts.
    #[default]
    Pooled,
    OnDemand,
}
