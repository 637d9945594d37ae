//! A cache of compiled components on disk, keyed by content and engine version, and memory-mapped.
//!
//! Compiled code must be as trustworthy as the program itself. So the folder and its files must belong to this
//! user and be writable by nobody else.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::progress::Step;

/// A folder of Spotter's in the user's cache directory, created if necessary.
///
/// # Errors
/// If the user has no cache directory, or the folder cannot be created or trusted.
pub fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let base = dirs::cache_dir()
        .context("there is no cache directory; set XDG_CACHE_HOME or HOME")?
        .join("spotter");
    let folder = base.join(name);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    ensure_private(&base)?;
    ensure_private(&folder)?;
    Ok(folder)
}

/// Writes a file atomically, readable by its owner only.
///
/// # Errors
/// If writing fails. The error names the path.
pub fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let context = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

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

/// Waits until no other process that asked for its turn compiles. Dropping the file ends the turn.
///
/// # Errors
/// If the folder cannot be written.
pub fn turn() -> anyhow::Result<File> {
    let path = folder("compiled")?.join("turn.lock");
    let context = || format!("cannot lock {}", path.display());
    let turn = File::create(&path).with_context(context)?;
    turn.lock().with_context(context)?;
    Ok(turn)
}

/// Maps a file that [`compile`] returned, which may be mounted elsewhere by now.
///
/// # Errors
/// If the file cannot be read, or was compiled for an engine with other settings.
pub fn open(engine: &Engine, compiled: &Path) -> anyhow::Result<Component> {
    deserialize(engine, compiled).context("cannot use the compiled code")
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
    lock.lock()?;
    if let Ok(component) = deserialize(engine, &path) {
        return Ok((path, component));
    }
    let step = Step::start(format!("Compiling `{id}`"));
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

/// Cache entries that have not been used for this long are removed.
const MAX_UNUSED_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn touch(path: &Path) {
    let noted = File::options().append(true).open(path);
    // If this fails, the entry is removed too early and has to be compiled again.
    let _ = noted.and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes old entries, so that the cache does not grow with every version. A process that has mapped an entry
/// keeps it.
pub(super) fn remove_unused(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let used = entry.metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > MAX_UNUSED_AGE)) {
            // Another process may have removed it already.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A hash of what compiled code depends on: wasmtime's version and settings, and the processor.
fn engine_version(engine: &Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

#[allow(unsafe_code, reason = "wasmtime maps compiled code from disk, which it cannot verify")]
fn deserialize(engine: &Engine, path: &Path) -> anyhow::Result<Component> {
    // SAFETY: the file was written by `write_whole` above from `precompile_component`'s output;
    // it and its folder belong to this user and are writable by nobody else (`ensure_private`), or
    // it is that file under a read-only mount of the shim's (`open`); and files are replaced by
    // renaming, never written in place.
    let component = unsafe { Component::deserialize_file(engine, path) };
    component.map_err(anyhow::Error::from)
}

fn ensure_private(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let owner = fs::metadata("/proc/self").map_or(metadata.uid(), |process| process.uid());
    ensure!(
        metadata.uid() == owner && metadata.permissions().mode() & 0o022 == 0,
        "{} belongs to another user or is writable by others, so compiled code in it cannot be \
         trusted; remove it, or set XDG_CACHE_HOME to a folder of your own",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{folder, turn};

    #[test]
    fn only_one_process_has_its_turn() {
        let mine = turn().unwrap();
        let other = File::open(folder("compiled").unwrap().join("turn.lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(mine);
        other.lock().unwrap();
    }
}
