//! Prepares components to be compiled: wraps core modules, and checks everything before the compiler, which takes far
//! longer, begins.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use wasmparser::Parser;

use crate::wrap::{Adapter, wrap};
use spotter_app::{App, Component, check};
use spotter_cache as cache;

/// Checks every component that requests can reach.
///
/// # Errors
/// Those of [`component`].
pub fn application(app: &App) -> anyhow::Result<()> {
    app.components.values().try_for_each(|one| component(one).map(drop))
}

/// Checks a component's file, and returns the one to compile: the same, or if it is a core module, a component in the
/// cache that wraps it.
///
/// # Errors
/// If the file cannot be read or is not WebAssembly, exports no HTTP handler, or imports something that the host does
/// not provide. The error lists all such imports.
pub fn component(component: &Component) -> anyhow::Result<PathBuf> {
    let path = component.source.display();
    let bytes = fs::read(&component.source).with_context(|| {
        format!(
            "cannot read the component {path}; build it first: `spotter build`, or `spotter up --build`"
        )
    })?;
    let checked = if Parser::is_core_wasm(&bytes) {
        wrapped(&bytes).and_then(|(path, bytes)| check::component(&bytes).map(|()| path))
    } else {
        check::component(&bytes).map(|()| component.source.clone())
    };
    checked.with_context(|| format!("component `{}` ({path})", component.id))
}

/// Change it whenever wrapping the same module would produce different bytes.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// The component that wraps a core module: its file in the cache, and its bytes.
fn wrapped(module: &[u8]) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(VERSION.as_bytes()).update(module);
    let folder = cache::folder("wrapped")?;
    let path = folder.join(format!("{}.wasm", hasher.finalize().to_hex()));
    if let Ok(component) = fs::read(&path) {
        cache::touch(&path);
        return Ok((path, component));
    }
    let component = wrap(module, Adapter::Reactor)?;
    cache::remove_unused(&folder);
    cache::write_whole(&path, &component)?;
    Ok((path, component))
}
