//! Prepares components for the compiler: wraps core modules, renames a release candidate's interfaces, composes
//! components with their dependencies, and checks everything first, because compiling takes far longer.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use wasmparser::Parser;

use super::wrap::{Adapter, wrap};
use super::{compose, rename_interfaces};
use spotter_app::triggers::Executor;
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
/// is a core module, contains its dependencies, or has its release's names if it is of a release candidate.
///
/// # Errors
/// If the file cannot be read or is not WebAssembly, does not export what its executor calls, or imports something that
/// the host does not provide. The error lists all such imports.
pub fn component(component: &Component) -> anyhow::Result<PathBuf> {
    let path = component.source.display();
    let bytes = fs::read(&component.source).with_context(|| {
        format!(
            "cannot read the component {path}; build it first: `spotter build`, or `spotter up --build`"
        )
    })?;
    prepare(component, bytes).with_context(|| format!("component `{}` ({path})", component.id))
}

/// The file to compile, given the content of a component's own.
fn prepare(component: &Component, bytes: Vec<u8>) -> anyhow::Result<PathBuf> {
    let executor = &component.executor;
    let (path, bytes) = match (Parser::is_core_wasm(&bytes), executor) {
        (false, _) => (component.source.clone(), bytes),
        (true, Executor::Http) => {
            cached("reactor", &bytes, |module| wrap(module, Adapter::Reactor))?
        }
        (true, Executor::Wagi { .. }) => {
            cached("command", &bytes, |module| wrap(module, Adapter::Command))?
        }
    };
    let (path, bytes) = match rename_interfaces::to_release(&bytes)? {
        None => (path, bytes),
        Some(renamed) => cached("renamed", &bytes, |_| Ok(renamed))?,
    };
    let (path, bytes) = if component.dependencies.is_empty() {
        (path, bytes)
    } else {
        composed(component, &bytes)?
    };
    check::component(&bytes, executor)?;
    Ok(path)
}

/// The component with its dependencies.
fn composed(component: &Component, bytes: &[u8]) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let dependencies = component.dependencies.iter();
    let dependencies: Vec<_> = dependencies
        .map(|dependency| Ok((dependency, compose::read(dependency)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut key = blake3::Hasher::new();
    for (dependency, bytes) in &dependencies {
        key.update(blake3::hash(bytes).as_bytes());
        key.update(
            blake3::hash(format!("{:?}", (&dependency.name, &dependency.export)).as_bytes())
                .as_bytes(),
        );
    }
    let form = format!("composed {}", key.finalize().to_hex());
    cached(&form, bytes, |component| compose::compose(component, &dependencies))
}

/// Change it whenever the same file would become different bytes.
const CACHE_KEY_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/6");

/// The result of `make` for these bytes, cached under the name `form`: its file in the cache, and its bytes.
fn cached(
    form: &str,
    original: &[u8],
    make: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CACHE_KEY_VERSION.as_bytes()).update(form.as_bytes()).update(original);
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
