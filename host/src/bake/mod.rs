//! `spotter bake`: turns a compiled function and a model's files into a component that starts with the model in
//! memory.

mod dead_code;
pub mod density;
pub mod description;
mod snapshot;

use std::path::{Path, PathBuf};

use crate::toolchain::WASM_TARGET_TRIPLE;
use anyhow::{Context, ensure};
use dead_code::LinkedModule;
use density::Density;
use description::Description;
use snapshot::Initialiser;
use spotter_progress::{ProgressStep, print_message};
use spotter_runtime::compile::wrap::{Adapter, wrap};

/// Change it whenever baking the same files would produce different bytes.
const CACHE_KEY_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/6");

/// The files of a model, in their folder.
pub struct ModelFolder {
    path: PathBuf,
    contents: Vec<Vec<u8>>,
}

/// The result of baking.
pub struct Baked {
    pub component: Vec<u8>,
    pub density: Density,
}

impl ModelFolder {
    /// The files of a model, in the order in which the function reads them.
    const FILE_NAMES: [&str; 3] = ["model.toml", "labels.txt", "model.onnx"];

    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read. The error names it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let contents = Self::FILE_NAMES
            .iter()
            .map(|name| {
                let file = path.join(name);
                std::fs::read(&file).with_context(|| {
                    format!(
                        "cannot read {}; a model's folder holds {}",
                        file.display(),
                        Self::FILE_NAMES.join(", ")
                    )
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { path: path.to_owned(), contents })
    }

    /// The contents of `model.toml`, `labels.txt` and `model.onnx`.
    pub fn files(&self) -> [&[u8]; 3] {
        std::array::from_fn(|index| self.contents[index].as_slice())
    }

    /// The path of a file in the folder, for an error.
    fn file_path(&self, file: &str) -> String {
        self.path.join(file).display().to_string()
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// A cache key for the result of baking this model into this module.
pub fn key(module: &[u8], model: &ModelFolder) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CACHE_KEY_VERSION.as_bytes());
    for part in std::iter::once(module).chain(model.contents.iter().map(Vec::as_slice)) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// Loads the model into the function, takes the snapshot, and wraps it as a component whose imports are wasi:http,
/// io, clocks, random and stdio.
///
/// # Errors
/// If the model or the module is invalid, or the snapshot is too sparse to be mapped copy-on-write, which would cost
/// every request milliseconds.
pub fn bake(module: &[u8], model: &ModelFolder) -> anyhow::Result<Baked> {
    ensure!(
        wasmparser::Parser::is_core_wasm(module),
        "this is not a core WebAssembly module; name the one that the build command produces, below \
         target/{WASM_TARGET_TRIPLE}"
    );
    let initialiser = Initialiser::new(&model.contents)?;
    let snapshot = initialiser.snapshot(module)?;
    let baked = match LinkedModule::new(module) {
        Ok(linked) => {
            let moved_memory = initialiser.memory_of_copy(linked.moved(), &snapshot)?;
            linked.remove_dead_code(module, &snapshot, moved_memory)?
        }
        Err(error) => {
            print_message(&format!("  The component keeps its dead code: {error:#}"));
            snapshot.module
        }
    };
    let density = Density::from_module(&baked)?;
    ensure!(density.is_mapped(), "{density}");
    let mut component = wrap(&baked, Adapter::Proxy)?;
    Description::from_folder(model)?.append_to(&mut component)?;
    Ok(Baked { component, density })
}

/// Bakes, and reports the progress and the snapshot's density on standard error.
///
/// # Errors
/// See [`bake`].
pub fn bake_with_progress(module: &[u8], model: &ModelFolder) -> anyhow::Result<Vec<u8>> {
    let step = ProgressStep::start(format!("Baking the model {}", model.name()));
    let baked = bake(module, model)?;
    step.done(format!("Baked {}", model.name()));
    print_message(&format!("  {}", baked.density));
    Ok(baked.component)
}
