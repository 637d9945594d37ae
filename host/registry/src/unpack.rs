//! Unpacks layers into a folder with a `spin.toml`, its components and their files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::locked::{Content, LockedApp, LockedFile, inner_path, model_folder};
use super::{LOCKED_TYPE, is_component, pack};
use spotter_cache::write_whole;

/// One layer of an image.
pub struct Layer {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// Writes the application into `folder`. The manifest is written last, so its presence means that the
/// application is complete.
///
/// # Errors
/// If the image contains no application, a layer is missing, or a path leads out of the folder.
pub fn unpack(layers: &[Layer], folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let locked = layers.iter().find(|layer| layer.media_type == LOCKED_TYPE);
    let manifest = match locked {
        Some(locked) => application(&locked.bytes, layers, folder)?,
        None => component(layers, folder)?,
    };
    write_whole(&folder.join("spin.toml"), manifest.as_bytes())
}

fn application(locked: &[u8], layers: &[Layer], folder: &Path) -> anyhow::Result<String> {
    let app: LockedApp =
        serde_json::from_slice(locked).context("cannot read the image's locked application")?;
    let manifest = toml::to_string(&app.to_manifest()?)?;
    let by_digest: BTreeMap<String, &[u8]> =
        layers.iter().map(|layer| (pack::digest(&layer.bytes), layer.bytes.as_slice())).collect();
    for component in &app.components {
        let id = &component.id;
        let source = bytes(&component.source.content, &by_digest)
            .with_context(|| format!("the component `{id}`"))?;
        write(&folder.join(format!("{id}.wasm")), &source)?;
        let files = folder.join("files").join(id);
        write_files(&component.files, &files, &by_digest).with_context(|| format!("`{id}`"))?;
        for (name, files) in component.models().with_context(|| format!("`{id}`"))? {
            write_files(&files, &folder.join(model_folder(id, &name)), &by_digest)
                .with_context(|| format!("the model `{name}` of `{id}`"))?;
        }
    }
    Ok(manifest)
}

fn write_files(
    files: &[LockedFile],
    folder: &Path,
    layers: &BTreeMap<String, &[u8]>,
) -> anyhow::Result<()> {
    for file in files {
        let content =
            bytes(&file.content, layers).with_context(|| format!("the file {}", file.path))?;
        write(&folder.join(inner_path(&file.path)?), &content)?;
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
    write(&folder.join("component.wasm"), &component.bytes)?;
    Ok("spin_manifest_version = 2\n\n[application]\nname = \"component\"\n\n[[trigger.http]]\n\
        route = \"/...\"\ncomponent = \"component\"\n\n[component.component]\n\
        source = \"component.wasm\"\n"
        .to_owned())
}

fn bytes(content: &Content, layers: &BTreeMap<String, &[u8]>) -> anyhow::Result<Vec<u8>> {
    if let Some(inline) = &content.inline {
        return BASE64.decode(inline).context("its inline bytes are not base64");
    }
    let digest = content.digest.as_ref().context("it has neither a digest nor inline bytes")?;
    // Spin omits the algorithm.
    let digest = if digest.contains(':') { digest.clone() } else { format!("sha256:{digest}") };
    let layer = layers.get(&digest);
    Ok(layer.with_context(|| format!("the image has no layer {digest}"))?.to_vec())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    ensure!(!path.is_dir(), "{} is both a folder and a file", path.display());
    write_whole(path, bytes)
}
