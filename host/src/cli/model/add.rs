//! `spotter model add`: adds a model to an application, as a component with routes of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use toml_edit::{DocumentMut, value};

use super::export;
use super::manifest::{self, Addition};
use crate::bake::ModelFolder;
use crate::bake::description::Description;
use crate::build::baked;
use crate::cli::build::ToolchainArguments;
use crate::detector;
use spotter_app::manifest::Manifest;
use spotter_progress::print_message;
use spotter_up::nearest_manifest;

/// Add a model to an application, as a component with routes of its own
#[derive(Args)]
pub(super) struct Add {
    /// The model's folder, or an ONNX file, for which a model.toml is guessed
    #[arg(value_name = "FOLDER | FILE.onnx")]
    model: PathBuf,
    /// The model's name in routes and replies [default: the one in model.toml]
    #[arg(long)]
    name: Option<String>,
    /// The names of an ONNX file's classes, one on each line [default: those in its metadata]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The manifest, or its folder [default: the spin.toml in this folder or the nearest one above]
    #[arg(short, long = "from", alias = "file", value_name = "MANIFEST")]
    from: Option<PathBuf>,
    #[command(flatten)]
    toolchain: ToolchainArguments,
}

/// The folder of an application's models.
const MODELS_FOLDER: &str = "models";

/// The detector's core module in an application that has none of its own.
const MODULE_FILE: &str = "models/detector.module.wasm";

impl Add {
    /// Bakes the model before anything is written, so that a faulty one leaves the application as it was.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let manifest_path = self.manifest();
        let shown = manifest_path.display().to_string();
        let text = std::fs::read_to_string(&manifest_path).with_context(|| {
            format!(
                "cannot read the manifest {shown}; name one with --from, or make an application with `spotter new`"
            )
        })?;
        let parsed = Manifest::parse(&text).with_context(|| format!("in {shown}"))?;
        let root = manifest_path.parent().unwrap_or(Path::new("")).to_owned();

        let prepared = self.prepare()?;
        let model = ModelFolder::read(prepared.path())?;
        let name = Description::from_folder(&model)?.name;
        let addition = Addition::new(&name, &parsed)?;
        let folder = root.join(MODELS_FOLDER).join(&addition.id);
        ensure!(!folder.exists(), "{} already exists; choose another --name", folder.display());
        let own_module = manifest::module(&parsed);
        let module = match &own_module {
            Some(module) if root.join(module).is_file() => read(&root.join(module))?,
            _ => detector::module(self.toolchain.options())?,
        };
        let component =
            read(&baked(&module, &model).with_context(|| self.model.display().to_string())?)?;
        let edited =
            addition.edit(&text, own_module.as_deref().unwrap_or(Path::new(MODULE_FILE)))?;

        copy_files(prepared.path(), &folder)?;
        write(&root.join(&addition.source), &component)?;
        if own_module.is_none() {
            write(&root.join(MODULE_FILE), &module)?;
        }
        write(&manifest_path, edited.as_bytes())?;
        print_message(&format!(
            "Added {name} to {shown}: POST /{}/detect. Its files are in {}; `spotter build` bakes them again",
            addition.id,
            folder.display()
        ));
        Ok(())
    }

    fn manifest(&self) -> PathBuf {
        let path = self.from.clone().unwrap_or_else(nearest_manifest);
        if path.is_dir() { path.join("spin.toml") } else { path }
    }

    /// The model's files in a temporary folder, with its name set.
    fn prepare(&self) -> anyhow::Result<tempfile::TempDir> {
        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        if self.model.is_dir() {
            ensure!(
                self.labels.is_none(),
                "--labels is for an ONNX file; the folder has its own labels.txt"
            );
            ModelFolder::read(&self.model)?;
            copy_files(&self.model, folder.path())?;
        } else {
            let labels = self.labels.as_deref().map(read).transpose()?;
            export::unpack(&self.model, labels, folder.path())?;
        }
        if let Some(name) = &self.name {
            let path = folder.path().join("model.toml");
            let text = String::from_utf8(read(&path)?).context("model.toml is not text")?;
            let mut document: DocumentMut = text
                .parse()
                .with_context(|| self.model.join("model.toml").display().to_string())?;
            document["name"] = value(name.as_str());
            write(&path, document.to_string().as_bytes())?;
        }
        Ok(folder)
    }
}

/// Copies the files of a folder, but no folders in it.
fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let entries =
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            write(&to.join(name), &read(&path)?)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
