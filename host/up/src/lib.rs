//! What `spotter up` does, on a laptop and in a pod: reads its flags, loads the application, and serves it.

mod application;
mod component_output;
pub mod health;
mod log;
pub mod pod;
mod pod_configuration;
mod proxies;
mod registry_arguments;
mod runtime_arguments;
mod serve;
mod variable_providers;
mod variables;

use anyhow::Context;

pub use application::{AppArguments, nearest_manifest};
pub use pod_configuration::PodConfiguration;
pub use registry_arguments::RegistryArguments;
pub use serve::FileInContainer;
pub use serve::{CompiledComponent, CompiledComponents, Serve};

/// The exit status for wrong usage (`EX_USAGE` in sysexits.h).
pub const EX_USAGE: u8 = 64;

/// Runs a future to completion on a runtime of its own.
///
/// # Errors
/// If the runtime cannot be started, and those of the future.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the async runtime")?.block_on(future)
}
