//! Compiled code on disk, by content and engine version, for its owner only, memory-mapped.
//!
//! Compiled code is trusted as the program itself is: so the folder and its files must belong to
//! this user and be writable by nobody else, or the cache is not used.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
    let folder = path.parent().unwrap_or(Path::new("."));
    let context = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// Loads the component in the file `source`, compiled: from the cache, or into it.
///
/// # Errors
/// A file that cannot be read, or that is no component.
pub fn load(engine: &Engine, source: &Path) -> anyhow::Result<Component> {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_mmap(source)
        .with_context(|| format!("cannot read the component {}; build it first: `spotter build`, or `spotter up --build`", source.display()))?;
    hasher.update(&engine_version(engine).to_le_bytes());
    let path = folder("compiled")?.join(format!("{}.cwasm", hasher.finalize().to_hex()));
    if path.exists() {
        ensure_private(&path)?;
        match deserialize(engine, &path) {
            Ok(component) => return Ok(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "recompiling a damaged cache entry");
            }
        }
    }
    let name = source.file_name().unwrap_or(source.as_os_str()).to_string_lossy();
    let step = Step::start(format!("Compiling {name}"));
    let bytes = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    let code = engine
        .precompile_component(&bytes)
        .map_err(anyhow::Error::from)
        .with_context(|| format!("{} is not a component that can be served", source.display()))?;
    write_whole(&path, &code)?;
    step.done(format!("Compiled {name} ({} MiB of code and data)", code.len() >> 20));
    deserialize(engine, &path)
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
    // it and its folder belong to this user and are writable by nobody else (`ensure_private`),
    // and files are replaced by renaming, never written in place.
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
