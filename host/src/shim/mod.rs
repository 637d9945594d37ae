//! Spotter as a containerd shim: each container is a `spotter up` in the pod's namespaces.
//!
//! containerd speaks to [`task::Task`], which [`plan`]s what a container is to run: a function, found in
//! its image's layers or in its root file system, compiled once for the node; or, for the sandbox and for
//! sidecars, a Linux program. A process forked early ([`container`]) then makes the container and runs it
//! ([`workload`]).

pub mod container;
pub mod image;
pub mod plan;
pub mod task;
pub mod workload;

use std::path::PathBuf;

use containerd_shim::Flags;
use containerd_shimkit::Config;
use containerd_shimkit::sandbox::cli::{Version, shim_main};

/// The name of the runtime, `io.containerd.spotter.v1`, without what all have in common.
const NAME: &str = "spotter";

/// Where the states of containers are, a folder for each of containerd's namespaces.
const STATES: &str = "/run/containerd/spotter";

/// Does what containerd asks for on the command line.
pub fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let flags = containerd_shim::parse(&arguments).unwrap_or_default();
    let is_delete = flags.action == "delete";
    if is_delete {
        clean_up(&flags);
    }
    let version = Version { version: env!("CARGO_PKG_VERSION"), revision: "" };
    let config = Config {
        // containerd calls `delete` for a shim that has died, and nobody reads the log's pipe then:
        // opening it would block this call, and containerd's start with it, for ever.
        no_setup_logger: is_delete,
        ..Config::default()
    };
    shim_main::<task::Task>(NAME, version, Some(config));
}

/// Ends what a shim that was killed has left behind.
fn clean_up(flags: &Flags) {
    let state = PathBuf::from(STATES).join(&flags.namespace).join(&flags.id);
    if let Err(error) = container::remove(&state) {
        log::warn!("{} is not cleaned up: {error:#}", state.display());
    }
}
