//! Pushes applications to OCI registries, pulls them, and downloads single components.

pub mod archive;
pub mod blobs;
mod connection;
pub mod credentials;
pub mod digest;
pub mod downloads;
pub mod in_use;
pub mod inventory;
pub mod layer;
pub mod locked;
pub mod manifest;
pub mod pack;
pub mod platform;
pub mod referrers;
mod session;
mod settings;
pub mod standalone;
pub mod unpack;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use oci_client::Client;
pub use oci_client::Reference;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use serde::Serialize;

use archive::MANIFEST_MEDIA_TYPE;
use blobs::{BlobSource, Pieces};
pub use connection::Transport;
use pack::Package;
use session::Session;
use spotter_progress::{ProgressStep, print_message};

/// The media type of an OCI image configuration.
const CONFIG_MEDIA_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// The media types of a Spin application's layers.
const LOCKED_MEDIA_TYPE: &str = "application/vnd.fermyon.spin.application.v1+config";
const WASM_LAYER_MEDIA_TYPE: &str = "application/vnd.wasm.content.layer.v1+wasm";
const DATA_MEDIA_TYPE: &str = "application/vnd.wasm.content.layer.v1+data";
/// The media types of a WebAssembly artifact's configuration and layer.
const WASM_CONFIG_MEDIA_TYPE: &str = "application/vnd.wasm.config.v0+json";
const WASM_MEDIA_TYPE: &str = "application/wasm";

/// Whether a layer of this media type is a component.
pub fn is_component(media_type: &str) -> bool {
    [WASM_MEDIA_TYPE, WASM_LAYER_MEDIA_TYPE].contains(&media_type)
}

/// The largest image that is pulled, in bytes.
pub const MAX_IMAGE_BYTES: u64 = 2 << 30;

/// Parses a reference such as `ghcr.io/me/detect:1`.
///
/// # Errors
/// If the text is not an image reference.
pub fn reference(text: &str) -> anyhow::Result<Reference> {
    text.parse().with_context(|| {
        format!(
            "{text:?} is not an image reference; write REGISTRY/NAME:TAG or REGISTRY/NAME@DIGEST"
        )
    })
}

/// An image that was pushed: the descriptor of its manifest, or of its index if it has one.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushedImage {
    pub media_type: &'static str,
    pub digest: String,
    pub size: usize,
}

impl PushedImage {
    fn new(media_type: &'static str, manifest: &[u8]) -> Self {
        Self { media_type, digest: digest::sha256(manifest), size: manifest.len() }
    }
}

/// Pushes a package.
///
/// # Errors
/// If the registry cannot be reached, or rejects the package or the login.
pub async fn push(
    reference: &Reference,
    transport: Transport,
    package: Package,
) -> anyhow::Result<PushedImage> {
    let session = Session::to_push(reference, transport).await?;
    let upload = async |client: &Client| upload(client, &session, package).await;
    session.with_client(upload).await
}

async fn upload(
    client: &Client,
    session: &Session<'_>,
    package: Package,
) -> anyhow::Result<PushedImage> {
    let reference = session.reference();
    let Package { config, layers, annotations, .. } = package;
    let annotations = (!annotations.is_empty()).then_some(annotations);
    let manifest = OciImageManifest::build(&layers, &config, annotations);
    let total = layers.iter().map(|layer| layer.data.len() as u64).sum();
    let step = ProgressStep::for_bytes(format!("Pushing {reference}"), total);
    let refused = |error| session.refused(error);
    for (layer, descriptor) in layers.into_iter().zip(&manifest.layers) {
        let length = layer.data.len() as u64;
        if !client.blob_exists(reference, &descriptor.digest).await.unwrap_or_default() {
            client.push_blob(reference, layer.data, &descriptor.digest).await.map_err(refused)?;
        }
        step.advance(length);
    }
    client.push_blob(reference, config.data, &manifest.config.digest).await.map_err(refused)?;
    // The same package has the same digest, whatever the order in which this program names a manifest's fields.
    let mut manifest = serde_json::to_value(&manifest)?;
    manifest.sort_all_objects();
    let manifest = Bytes::from(manifest.to_string());
    let pushed = PushedImage::new(MANIFEST_MEDIA_TYPE, &manifest);
    let version = manifest::version(reference);
    session.put_manifest(version, MANIFEST_MEDIA_TYPE, manifest).await?;
    step.done(format!("Pushed {reference}"));
    Ok(pushed)
}

/// Pulls an application into the cache, unless it is there already. Returns its folder and digest.
///
/// # Errors
/// If the registry cannot be reached or rejects the request, or the image contains no application.
pub async fn pull(
    reference: &Reference,
    transport: Transport,
) -> anyhow::Result<(PathBuf, String)> {
    let session = Session::to_pull(reference, transport).await?;
    let (manifest, digest) = manifest::pull(&session, reference).await?;
    let total = blobs::check(&manifest.layers)?;
    let source = RegistrySource { session: &session, reference };
    // Begins only when something is pulled: otherwise an application in the cache would seem to be pulled again.
    let step = std::cell::OnceCell::new();
    let begin = || ProgressStep::for_bytes(format!("Pulling {reference}"), total);
    let advance = |bytes| step.get_or_init(begin).advance(bytes);
    let folder = blobs::application(&source, &digest, &manifest.layers, |_| Ok(()), advance).await;
    let folder = folder.with_context(|| format!("cannot use {reference}"))?;
    if let Some(step) = step.into_inner() {
        step.done(format!("Pulled {reference}"));
        print_message(&format!("  {digest}"));
    }
    Ok((folder, digest))
}

/// An image's blobs in a registry.
struct RegistrySource<'a> {
    session: &'a Session<'a>,
    reference: &'a Reference,
}

impl BlobSource for RegistrySource<'_> {
    async fn open(&self, descriptor: &OciDescriptor) -> anyhow::Result<Pieces<'_>> {
        let response = self.session.get(&format!("blobs/{}", descriptor.digest), "*/*").await?;
        let registry = self.reference.resolve_registry();
        let broken = move || format!("{registry} ended the transfer early");
        Ok(Box::pin(response.bytes_stream().map(move |piece| piece.with_context(broken))))
    }
}

/// Checks a user name and password with a registry.
///
/// # Errors
/// If the registry cannot be reached, or rejects them.
pub async fn check_login(
    registry: &str,
    transport: Transport,
    user: &str,
    password: &str,
) -> anyhow::Result<()> {
    let reference = Reference::with_tag(registry.to_owned(), "spotter/login".into(), "none".into());
    let auth = RegistryAuth::Basic(user.to_owned(), password.to_owned());
    let session = Session::to_log_in(&reference, transport, auth).await?;
    let is_welcome = session.is_welcome().await?;
    ensure!(is_welcome, "{registry} rejects this user name and password");
    Ok(())
}

/// Whether `--from` names an image rather than a path: it has a registry before a `/`, and is not an existing
/// file.
pub fn is_reference(from: &Path) -> bool {
    let Some(text) = from.to_str() else { return false };
    let registry = text.split_once('/').map_or("", |(registry, _)| registry);
    let has_registry = registry == "localhost" || registry.contains(['.', ':']);
    !registry.starts_with('.')
        && has_registry
        && !from.exists()
        && text.parse::<Reference>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_reference;
    use std::path::Path;

    #[test]
    fn an_image_is_told_from_a_path() {
        for text in [
            "ghcr.io/me/detect:1",
            "localhost:5000/detect",
            "registry.example.com/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert!(is_reference(Path::new(text)), "{text}");
        }
        for text in ["spin.toml", "./a.b/c", "../a/b", "folder/spin.toml", "/etc/passwd"] {
            assert!(!is_reference(Path::new(text)), "{text}");
        }
    }
}
