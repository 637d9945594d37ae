//! Unpacks layers into a folder with a `spin.toml`, its components and their files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::layer::Layer;
use super::locked::{Content, LockedApp, LockedComponent, LockedFile, inner_path, model_folder};
use super::{LOCKED_MEDIA_TYPE, MAX_IMAGE_BYTES, is_component};
use spotter_cache::write_atomically;

/// The largest locked application that is read, in bytes: the files that it contains included.
const MAX_LOCKED_BYTES: u64 = 64 << 20;

/// The most files and folders that an image's components may have.
const MAX_ENTRIES: usize = 100_000;

/// Writes the application into `folder`. The manifest is written last, so its presence means that the
/// application is complete.
///
/// # Errors
/// If the image contains no application, a layer is missing, or a path leads out of the folder.
pub fn unpack(layers: &[Layer], folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let locked = layers.iter().find(|layer| layer.media_type == LOCKED_MEDIA_TYPE);
    let manifest = match locked {
        Some(locked) => application(&locked.file, &mut LayerContents::from_layers(layers), folder)?,
        None => component(layers, folder)?,
    };
    write_atomically(&folder.join("spin.toml"), manifest.as_bytes())
}

fn application(
    locked: &Path,
    contents: &mut LayerContents,
    folder: &Path,
) -> anyhow::Result<String> {
    let failed = "cannot read the image's locked application";
    let length = std::fs::metadata(locked).context(failed)?.len();
    ensure!(
        length <= MAX_LOCKED_BYTES,
        "the image's locked application has {length} bytes; the maximum is {MAX_LOCKED_BYTES}"
    );
    let app: LockedApp =
        serde_json::from_slice(&std::fs::read(locked).context(failed)?).context(failed)?;
    let manifest = toml::to_string(&app.to_manifest()?)?;
    // An image of a few megabytes could otherwise use up the disk's inodes.
    let entries = app.components.iter().map(max_entries);
    let entries = entries.sum::<anyhow::Result<usize>>()?;
    ensure!(
        entries <= MAX_ENTRIES,
        "the image has up to {entries} files and folders; the maximum is {MAX_ENTRIES}"
    );
    for component in &app.components {
        let id = &component.id;
        contents
            .place(&component.source.content, &folder.join(format!("{id}.wasm")))
            .with_context(|| format!("the component `{id}`"))?;
        let files = folder.join("files").join(id);
        write_files(&component.files, &files, contents).with_context(|| format!("`{id}`"))?;
        for (name, files) in component.models().with_context(|| format!("`{id}`"))? {
            write_files(&files, &folder.join(model_folder(id, &name)), contents)
                .with_context(|| format!("the model `{name}` of `{id}`"))?;
        }
    }
    Ok(manifest)
}

/// How many files and folders a component can have on the disk, at most.
fn max_entries(component: &LockedComponent) -> anyhow::Result<usize> {
    let models = component.models()?;
    let files = component.files.iter().chain(models.values().flatten());
    files.map(|file| Ok(inner_path(&file.path)?.components().count())).sum()
}

fn write_files(
    files: &[LockedFile],
    folder: &Path,
    contents: &mut LayerContents,
) -> anyhow::Result<()> {
    for file in files {
        contents
            .place(&file.content, &folder.join(inner_path(&file.path)?))
            .with_context(|| format!("the file {}", file.path))?;
    }
    Ok(())
}

fn component(layers: &[Layer], folder: &Path) -> anyhow::Result<String> {
    let mut found = layers.iter().filter(|layer| is_component(&layer.media_type));
    let (Some(component), None) = (found.next(), found.next()) else {
        let types: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
        bail!(
            "the image is neither a Spin application nor a single WebAssembly component; its layers are {}",
            types.join(", ")
        );
    };
    LayerContents::from_layers(layers).link(&component.file, &folder.join("component.wasm"))?;
    Ok("spin_manifest_version = 2\n\n[application]\nname = \"component\"\n\n[[trigger.http]]\n\
        route = \"/...\"\ncomponent = \"component\"\n\n[component.component]\n\
        source = \"component.wasm\"\n"
        .to_owned())
}

/// The contents that a locked application can name.
struct LayerContents<'a> {
    layers: BTreeMap<&'a str, &'a Path>,
    /// How much was copied because it could not be linked, in bytes.
    copied: u64,
}

impl<'a> LayerContents<'a> {
    fn from_layers(layers: &'a [Layer]) -> Self {
        let by_digest =
            layers.iter().map(|layer| (layer.digest.as_str(), layer.file.as_path())).collect();
        Self { layers: by_digest, copied: 0 }
    }

    /// Places a content at a path.
    fn place(&mut self, content: &Content, path: &Path) -> anyhow::Result<()> {
        if let Some(inline) = &content.inline {
            let bytes = BASE64.decode(inline).context("its inline bytes are not base64")?;
            make_room(path)?;
            return std::fs::write(path, bytes)
                .with_context(|| format!("cannot write {}", path.display()));
        }
        let digest = content.digest.as_ref().context("it has neither a digest nor inline bytes")?;
        // Spin omits the algorithm.
        let digest = if digest.contains(':') { digest.clone() } else { format!("sha256:{digest}") };
        let layer = self.layers.get(digest.as_str()).copied();
        self.link(layer.with_context(|| format!("the image has no layer {digest}"))?, path)
    }

    /// Links a layer's file to a path, so that it is on the disk once, however many paths have it.
    fn link(&mut self, layer: &Path, path: &Path) -> anyhow::Result<()> {
        make_room(path)?;
        if std::fs::hard_link(layer, path).is_ok() {
            return Ok(());
        }
        // The file system has no hard links, or not so many of one file.
        let failed = || format!("cannot write {}", path.display());
        self.copied =
            self.copied.saturating_add(std::fs::metadata(layer).with_context(failed)?.len());
        ensure!(
            self.copied <= MAX_IMAGE_BYTES,
            "its files take more than {MAX_IMAGE_BYTES} bytes, because this file system has no hard links; choose a folder on \
             another file system with --cache-dir"
        );
        std::fs::copy(layer, path).with_context(failed)?;
        Ok(())
    }
}

/// Makes the folder of a path, and removes a file that is there.
fn make_room(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    ensure!(!path.is_dir(), "{} is both a folder and a file", path.display());
    // Creating a link does not replace a file.
    let _ = std::fs::remove_file(path);
    Ok(())
}
