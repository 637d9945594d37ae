//! Compiled components in the cache, keyed by content and engine version, and memory-mapped.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use spotter_cache::{ensure_private, folder, lock_entry, remove_unused, touch, write_with_mode};
use spotter_progress::ProgressStep;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads the component `id`, whose file is `source`, from the cache. Compiles it first if it is not cached.
///
/// # Errors
/// If the file cannot be read or is not a component.
pub fn load(engine: &Engine, source: &Path, id: &str) -> anyhow::Result<Component> {
    Ok(load_or_compile(engine, source, id)?.1)
}

/// Compiles the component in the file `source` into the cache, unless it is already there. Returns the file of
/// compiled code, for [`open`].
///
/// # Errors
/// As [`load`].
pub fn compile(engine: &Engine, source: &Path, id: &str) -> anyhow::Result<PathBuf> {
    Ok(load_or_compile(engine, source, id)?.0)
}

/// Loads the component in the file `source`, if its compiled code is in the cache.
///
/// # Errors
/// If the component cannot be read, or the cache cannot be trusted.
pub fn get(engine: &Engine, source: &Path) -> anyhow::Result<Option<Component>> {
    cached(engine, &entry(engine, source)?)
}

/// The file of compiled code for the component in the file `source`, if it is in the cache.
///
/// # Errors
/// If the component cannot be read, or the cache cannot be trusted.
pub fn find(engine: &Engine, source: &Path) -> anyhow::Result<Option<PathBuf>> {
    let path = entry(engine, source)?;
    Ok(cached(engine, &path)?.map(|_| path))
}

/// Maps a file that [`compile`] returned, which may be mounted elsewhere by now.
///
/// # Errors
/// If the file cannot be read, or was compiled for an engine with other settings.
pub fn open(engine: &Engine, compiled: &Path) -> anyhow::Result<Component> {
    deserialize(engine, compiled).context("cannot use the compiled code")
}

/// The name of a file of compiled code outside of the cache, by the content of the component in the file `source`.
///
/// # Errors
/// If the component cannot be read.
pub fn file_name(source: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(source).with_context(|| format!("cannot read {}", source.display()))?;
    Ok(format!("{}.cwasm", hasher.finalize().to_hex()))
}

/// Checks that a folder of compiled code outside of the cache belongs to this user or to root, as in an image, and that
/// nobody else can write to it.
///
/// # Errors
/// If it does not exist, or others could have changed the code.
pub fn ensure_trusted(folder: &Path) -> anyhow::Result<()> {
    let metadata =
        fs::metadata(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    if metadata.uid() == 0 && metadata.permissions().mode() & 0o022 == 0 {
        return Ok(());
    }
    ensure_private(folder)
}

/// The path of the cache's entry for a component, whether or not it exists.
fn entry(engine: &Engine, source: &Path) -> anyhow::Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(source).with_context(|| format!("cannot read {}", source.display()))?;
    hasher.update(&engine_version(engine).to_le_bytes());
    Ok(folder("compiled")?.join(format!("{}.cwasm", hasher.finalize().to_hex())))
}

/// The component of a cache entry; `None` if there is none, or it is damaged.
fn cached(engine: &Engine, path: &Path) -> anyhow::Result<Option<Component>> {
    if !path.exists() {
        return Ok(None);
    }
    ensure_private(path)?;
    match deserialize(engine, path) {
        Ok(component) => {
            touch(path);
            Ok(Some(component))
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "recompiling a damaged cache entry");
            Ok(None)
        }
    }
}

fn load_or_compile(
    engine: &Engine,
    source: &Path,
    id: &str,
) -> anyhow::Result<(PathBuf, Component)> {
    let path = entry(engine, source)?;
    if let Some(component) = cached(engine, &path)? {
        return Ok((path, component));
    }
    // One process compiles and the others wait for it, so that all map the same file.
    let lock = File::create(path.with_extension("lock"))?;
    lock_entry(&lock)?;
    if let Ok(component) = deserialize(engine, &path) {
        return Ok((path, component));
    }
    let step = ProgressStep::start(format!("Compiling `{id}`"));
    let bytes = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    let code = engine
        .precompile_component(&bytes)
        .map_err(anyhow::Error::from)
        .with_context(|| format!("{} is not a component that can be served", source.display()))?;
    remove_unused(path.parent().unwrap_or(Path::new(".")));
    // Readable by everyone who can enter the folder: a pod's user is seldom root.
    write_with_mode(&path, &code, 0o644)?;
    step.done(format!("Compiled `{id}` ({} MiB of code and data)", code.len() >> 20));
    let component = deserialize(engine, &path)?;
    Ok((path, component))
}

/// A hash of what compiled code depends on: wasmtime's version and settings, and the processor.
fn engine_version(engine: &Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

#[allow(unsafe_code, reason = "wasmtime maps compiled code from disk, which it cannot verify")]
fn deserialize(engine: &Engine, path: &Path) -> anyhow::Result<Component> {
    // SAFETY: the file was written by `write_with_mode` above from `precompile_component`'s output; it and its folder
    // belong to this user and are writable by nobody else (`ensure_private`), or it is that file under a read-only
    // mount of the shim's (`open`); and files are replaced by renaming, never written in place.
    let component = unsafe { Component::deserialize_file(engine, path) };
    component.map_err(anyhow::Error::from)
}
