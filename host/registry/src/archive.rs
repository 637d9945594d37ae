//! Writes a `FROM scratch` image with `spin.toml` and its components as an OCI archive
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>), without Docker.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use oci_client::client::ImageLayer;
use serde_json::{Value, json};
use tempfile::TempDir;
use walkdir::WalkDir;

use super::digest::sha256;
use super::layer::Layer;
use super::pack::{self, Package};
use super::unpack;
use spotter_app::App;
use spotter_app::manifest::Manifest;
use spotter_cache::write_atomically;

/// A copy of the manifest, which the shim reads as the container's entry point. Another runtime tries to execute it and
/// names it in its error, so its name says what is wrong.
const ENTRY_POINT: &str = "needs-runtimeClassName-spotter.toml";

pub(super) const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const TAR_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The architectures of the nodes that can run the image. Its content is the same for all.
const NODE_ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Writes the archive, and returns the digest of the image's index. The archive is reproducible.
///
/// # Errors
/// If a component is not built, or a file cannot be read or written.
pub fn write(manifest: Manifest, app: &App, name: &str, output: &Path) -> anyhow::Result<String> {
    let folder = folder(&pack::application(manifest, app)?)?;
    let manifest = folder.path().join("spin.toml");
    std::fs::copy(manifest, folder.path().join(ENTRY_POINT)).context("cannot copy the manifest")?;
    let tar = layer(folder.path())?;
    let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
    zipped.write_all(&tar)?;
    let zipped = zipped.finish()?;
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    let mut variants = Vec::new();
    for architecture in NODE_ARCHITECTURES {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": [format!("/{ENTRY_POINT}")], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&tar)]},
        })
        .to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [descriptor(TAR_MEDIA_TYPE, &zipped)],
        })
        .to_string();
        let mut variant = descriptor(MANIFEST_MEDIA_TYPE, manifest.as_bytes());
        variant["platform"] = json!({"architecture": architecture, "os": "linux"});
        variants.push(variant);
        blobs.extend([config.into_bytes(), manifest.into_bytes()]);
    }
    let image = json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": variants})
        .to_string();
    let mut entry = descriptor(INDEX_MEDIA_TYPE, image.as_bytes());
    entry["annotations"] = json!({
        "io.containerd.image.name": fully_qualified(name),
        "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [entry]})
        .to_string();
    let image_digest = sha256(image.as_bytes());
    blobs.extend([image.into_bytes(), zipped]);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", index.as_bytes())?;
    for blob in blobs {
        append(&mut archive, &format!("blobs/{}", sha256(&blob).replace(':', "/")), &blob)?;
    }
    write_atomically(output, &archive.into_inner()?)?;
    Ok(image_digest)
}

/// The application as `pull` writes it: its manifest, components and files.
pub(super) fn folder(package: &Package) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let written = tempfile::tempdir().context("cannot create a temporary folder")?;
    let write = |layer: &ImageLayer| Layer::write(written.path(), &layer.media_type, &layer.data);
    let layers: Vec<Layer> = package.layers.iter().map(write).collect::<anyhow::Result<_>>()?;
    unpack::unpack(&layers, folder.path())?;
    Ok(folder)
}

fn layer(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(folder)?.to_string_lossy();
            append(&mut tar, &path, &std::fs::read(entry.path())?)?;
        }
    }
    Ok(tar.into_inner()?)
}

/// Appends a file without an owner or a time, so that the archive depends only on the content.
pub(super) fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, path, bytes).with_context(|| format!("cannot archive {path}"))
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

/// The image's name with a registry, as containerd requires.
pub(super) fn fully_qualified(name: &str) -> String {
    let registry = name.split_once('/').map_or("", |(registry, _)| registry);
    if registry == "localhost" || registry.contains(['.', ':']) {
        name.to_owned()
    } else if name.contains('/') {
        format!("docker.io/{name}")
    } else {
        format!("docker.io/library/{name}")
    }
}
