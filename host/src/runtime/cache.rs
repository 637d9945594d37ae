//! Compiled code on disk, by content and engine version, for its owner only, memory-mapped.
//!
//! Compiled code is trusted as the program itself is: so the folder and its files must belong to
//! this user and be writable by nobody else, or the cache is not used.

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

/// Spotter's folder under the user's cache directory.
///
/// # Errors
/// Where the user has no cache directory, or the folder cannot be made or trusted.
pub fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let base = dirs::cache_dir()
        .context("there is no cache directory; set XDG_CACHE_HOME or HOME")?
        .join("spotter");
    let folder = base.join(name);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    ensure_private(&base)?;
    ensure_private(&folder)?;
    Ok(folder)
}

/// Writes a file so that it is there whole or not at all, readable by its owner only.
///
/// # Errors
/// Any I/O error, with the path.
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

/// Loads the component in the file `source`, compiled: from the cache, or into it.
///
/// # Errors
/// A file that cannot be read, or that is no component.
pub fn load(engine: &Engine, source: &Path) -> anyhow::Result<Component> {
    Ok(load_or_compile(engine, source)?.1)
}

/// Compiles the component in the file `source` into the cache, where it is not there; gives the file of
/// compiled code, for [`open`].
///
/// # Errors
/// As [`load`]'s.
pub fn compile(engine: &Engine, source: &Path) -> anyhow::Result<PathBuf> {
    Ok(load_or_compile(engine, source)?.0)
}

/// Maps a file that [`compile`] gave, wherever it is mounted by now.
///
/// # Errors
/// A file that cannot be read; code for an engine of other settings.
pub fn open(engine: &Engine, compiled: &Path) -> anyhow::Result<Component> {
    deserialize(engine, compiled).context("the compiled code cannot be used")
}

fn load_or_compile(engine: &Engine, source: &Path) -> anyhow::Result<(PathBuf, Component)> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_mmap(source)
        .with_context(|| format!("cannot read the component {}; build it first: `spotter build`, or `spotter up --build`", source.display()))?;
    hasher.update(&engine_version(engine).to_le_bytes());
    let folder = folder("compiled")?;
    let path = folder.join(format!("{}.cwasm", hasher.finalize().to_hex()));
    if path.exists() {
        ensure_private(&path)?;
        match deserialize(engine, &path) {
            Ok(component) => {
                touch(&path);
                return Ok((path, component));
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "recompiling a damaged cache entry");
            }
        }
    }
    // One compiles, the others wait for it: what they then map is one file.
    let lock = File::create(path.with_extension("lock"))?;
    lock.lock()?;
    if let Ok(component) = deserialize(engine, &path) {
        return Ok((path, component));
    }
    let name = source.file_name().unwrap_or(source.as_os_str()).to_string_lossy();
    let step = Step::start(format!("Compiling {name}"));
    let bytes = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    let code = engine
        .precompile_component(&bytes)
        .map_err(anyhow::Error::from)
        .with_context(|| format!("{} is not a component that can be served", source.display()))?;
    remove_unused(&folder);
    // All may read it, of those who get past its folder: a pod's user is seldom root.
    write_with_mode(&path, &code, 0o644)?;
    step.done(format!("Compiled {name} ({} MiB of code and data)", code.len() >> 20));
    let component = deserialize(engine, &path)?;
    Ok((path, component))
}

/// Entries that nothing has loaded for so long are of versions that are gone.
const MAX_UNUSED_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn touch(path: &Path) {
    let noted = File::options().append(true).open(path);
    // Where that fails, the entry is compiled again one day.
    let _ = noted.and_then(|file| file.set_modified(SystemTime::now()));
}

/// Keeps the cache from growing with every version there ever was; who has one mapped keeps it.
fn remove_unused(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let used = entry.metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > MAX_UNUSED_AGE)) {
            // Another process may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What makes compiled code of one engine useless to another: wasmtime's version and settings,
/// and the processor.
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
        "{} belongs to someone else or is writable by others, so compiled code in it cannot be \
         trusted; remove it, or set XDG_CACHE_HOME to a folder of your own",
        path.display()
    );
    Ok(())
}
