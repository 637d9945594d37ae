//! Wraps a core module for WASI preview 1 as a component.

use anyhow::Context;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    WASI_SNAPSHOT_PREVIEW1_PROXY_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;

/// The adapter that implements WASI preview 1 in a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// HTTP, clocks, random numbers and standard streams only.
    Proxy,
    /// Files and an environment too.
    Reactor,
    /// The same, for a program with a `main` function.
    Command,
}

/// Wraps a core module for WASI preview 1 as a component.
///
/// # Errors
/// If the module imports something that is neither in its own interfaces nor in preview 1.
pub fn wrap(module: &[u8], adapter: Adapter) -> anyhow::Result<Vec<u8>> {
    let adapter = match adapter {
        Adapter::Proxy => WASI_SNAPSHOT_PREVIEW1_PROXY_ADAPTER,
        Adapter::Reactor => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        Adapter::Command => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
    };
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .context("the module does not describe its interfaces")?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)
        .context("cannot apply the WASI preview 1 adapter")?
        .encode()
        .context("cannot wrap the module as a component")
}
