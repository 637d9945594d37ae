//! Compiled components and modules in the cache, keyed by content and engine version, and memory-mapped.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use memmap2::Mmap;
use spotter_cache::{ensure_private, folder, lock_entry, remove_unused, touch, write_with_mode};
use spotter_progress::ProgressStep;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// Loads the component `id`, whose file is `source`, from the cache. Compiles it first if it is not cached.
///
/// # Errors
/// If the file cannot be read or is not a component.
pub fn load(engine: &Engine, source: &Path, id: &str) -> anyhow::Result<Component> {
    load_or_compile(engine, &file_entry(engine, source)?, || {
        precompile(engine, &fs::read(source).with_context(|| cannot_read(source))?, source, id)
    })
}

/// Loads a core module from the cache. Compiles it first if it is not cached, and goes on without the cache if that
/// cannot be used.
///
/// # Errors
/// If it is not a valid module.
pub fn load_module(engine: &Engine, module: &[u8]) -> anyhow::Result<Module> {
    load_cached_module(engine, module).or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "the module's compiled code is not cached");
        Module::new(engine, module).map_err(anyhow::Error::from)
    })
}

fn load_cached_module(engine: &Engine, module: &[u8]) -> anyhow::Result<Module> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(module);
    let path = entry(engine, hasher)?;
    let compile = || engine.precompile_module(module).map_err(anyhow::Error::from);
    load_or_compile(engine, &path, compile)
}

/// Compiles the component in the file `source` into the cache, unless it is already there. Returns the file of
/// compiled code, for [`open`]. Takes less memory than [`load`], but ends the process if somebody shortens the file
/// meanwhile.
///
/// # Errors
/// As [`load`].
pub fn compile(engine: &Engine, source: &Path, id: &str) -> anyhow::Result<PathBuf> {
    let path = file_entry(engine, source)?;
    let compile = || precompile(engine, &mapped(source)?, source, id);
    load_or_compile::<Component>(engine, &path, compile)?;
    Ok(path)
}

/// Loads the component in the file `source`, if its compiled code is in the cache.
///
/// # Errors
/// If the component cannot be read, or the cache cannot be trusted.
pub fn get(engine: &Engine, source: &Path) -> anyhow::Result<Option<Component>> {
    cached(engine, &file_entry(engine, source)?)
}

/// The file of compiled code for the component in the file `source`, if it is in the cache.
///
/// # Errors
/// If the component cannot be read, or the cache cannot be trusted.
pub fn find(engine: &Engine, source: &Path) -> anyhow::Result<Option<PathBuf>> {
    let path = file_entry(engine, source)?;
    Ok(cached::<Component>(engine, &path)?.map(|_| path))
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
    hasher.update_mmap(source).with_context(|| cannot_read(source))?;
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

/// The path of the cache's entry for the component in a file, whether or not it exists.
fn file_entry(engine: &Engine, source: &Path) -> anyhow::Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(source).with_context(|| cannot_read(source))?;
    entry(engine, hasher)
}

/// The path of the cache's entry for the content that was hashed, whether or not it exists.
fn entry(engine: &Engine, mut content: blake3::Hasher) -> anyhow::Result<PathBuf> {
    content.update(&engine_version(engine).to_le_bytes());
    Ok(folder("compiled")?.join(format!("{}.cwasm", content.finalize().to_hex())))
}

/// The code of a cache entry; `None` if there is none, or it is damaged.
fn cached<C: CompiledCode>(engine: &Engine, path: &Path) -> anyhow::Result<Option<C>> {
    if !path.exists() {
        return Ok(None);
    }
    ensure_private(path)?;
    match deserialize(engine, path) {
        Ok(code) => {
            touch(path);
            Ok(Some(code))
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "recompiling a damaged cache entry");
            Ok(None)
        }
    }
}

/// Compiles a component, which was read from the file `source`.
fn precompile(
    engine: &Engine,
    component: &[u8],
    source: &Path,
    id: &str,
) -> anyhow::Result<Vec<u8>> {
    let step = ProgressStep::start(format!("Compiling `{id}`"));
    let code = engine.precompile_component(component).map_err(anyhow::Error::from);
    let code = code
        .with_context(|| format!("{} is not a component that can be served", source.display()))?;
    step.done(format!("Compiled `{id}` ({} MiB of code and data)", code.len() >> 20));
    Ok(code)
}

/// A file's content, which takes no memory of the process.
#[allow(unsafe_code, reason = "compiling takes several times a component's size as it is")]
pub(super) fn mapped(path: &Path) -> anyhow::Result<Mmap> {
    let file = File::open(path).with_context(|| cannot_read(path))?;
    // SAFETY: the file is in the cache, where files are replaced and never changed, or in the image of a container that
    // does not run its function yet.
    unsafe { Mmap::map(&file) }.with_context(|| cannot_read(path))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// The code of a cache entry, which `compile` produces if there is none.
fn load_or_compile<C: CompiledCode>(
    engine: &Engine,
    path: &Path,
    compile: impl FnOnce() -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<C> {
    if let Some(code) = cached(engine, path)? {
        return Ok(code);
    }
    // One process compiles and the others wait for it, so that all map the same file.
    let lock = File::create(path.with_extension("lock"))?;
    lock_entry(&lock)?;
    if let Ok(code) = deserialize(engine, path) {
        return Ok(code);
    }
    let code = compile()?;
    remove_unused(path.parent().unwrap_or(Path::new(".")));
    // Readable by everyone who can enter the folder: a pod's user is seldom root.
    write_with_mode(path, &code, 0o644)?;
    deserialize(engine, path)
}

/// A hash of what compiled code depends on: wasmtime's version and settings, and the processor.
fn engine_version(engine: &Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// What wasmtime loads from a file of compiled code.
trait CompiledCode: Sized {
    /// Maps the file.
    ///
    /// # Safety
    /// It must have been written by the matching `precompile` of [`Engine`], and nobody may change it.
    #[allow(unsafe_code, reason = "wasmtime maps compiled code from disk, which it cannot verify")]
    unsafe fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Self>;
}

#[allow(unsafe_code, reason = "as the trait says")]
impl CompiledCode for Component {
    unsafe fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        // SAFETY: the caller's promise is the one that wasmtime asks for.
        unsafe { Self::deserialize_file(engine, path) }
    }
}

#[allow(unsafe_code, reason = "as the trait says")]
impl CompiledCode for Module {
    unsafe fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Self> {
        // SAFETY: the caller's promise is the one that wasmtime asks for.
        unsafe { Self::deserialize_file(engine, path) }
    }
}

#[allow(unsafe_code, reason = "wasmtime maps compiled code from disk, which it cannot verify")]
fn deserialize<C: CompiledCode>(engine: &Engine, path: &Path) -> anyhow::Result<C> {
    // SAFETY: the file was written by `write_with_mode` above from the output of `precompile_component` or
    // `precompile_module`; it and its folder belong to this user and are writable by nobody else (`ensure_private`), or
    // it is that file under a read-only mount of the shim's (`open`); and files are replaced by renaming, never written
    // in place. wasmtime refuses a component's file as a module, and a module's as a component.
    let code = unsafe { C::map(engine, path) };
    code.map_err(anyhow::Error::from)
}
