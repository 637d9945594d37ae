//! Prepares components to be compiled: wraps core modules, renames a release candidate's interfaces, and checks
//! everything before the compiler, which takes far longer, begins.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use wasmparser::Parser;

use super::renamed;
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

/// Checks a component's file, and returns the one to compile: the same, or a component in the cache that wraps it if it
/// is a core module, or has its release's names if it is of a release candidate.
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
    prepared(component.source.clone(), bytes)
        .with_context(|| format!("component `{}` ({path})", component.id))
}

/// The file to compile, given a component's own and its content.
fn prepared(source: PathBuf, bytes: Vec<u8>) -> anyhow::Result<PathBuf> {
    let (path, bytes) = if Parser::is_core_wasm(&bytes) {
        cached(&bytes, |module| wrap(module, Adapter::Reactor))?
    } else {
        (source, bytes)
    };
    let Some(renamed) = renamed::to_release(&bytes)? else {
        check::component(&bytes)?;
        return Ok(path);
    };
    check::component(&renamed)?;
    Ok(cached(&bytes, |_| Ok(renamed))?.0)
}

/// Change it whenever the same file would become different bytes.
const CACHE_KEY_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// What `make` makes of these bytes: its file in the cache, and its bytes.
fn cached(
    original: &[u8],
    make: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CACHE_KEY_VERSION.as_bytes()).update(original);
    let folder = cache::folder("wrapped")?;
    let path = folder.join(format!("{}.wasm", hasher.finalize().to_hex()));
    if let Ok(component) = fs::read(&path) {
        cache::touch(&path);
        return Ok((path, component));
    }
    let component = make(original)?;
    cache::remove_unused(&folder);
    cache::write_atomically(&path, &component)?;
    Ok((path, component))
}
