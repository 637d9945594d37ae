//! Reads an application from the layers of a container's image in containerd's content store.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bytes::Bytes;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{GetContainerRequest, GetImageRequest, ReadContentRequest};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request};
use containerd_client::with_namespace;
use futures_util::StreamExt;
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use walkdir::WalkDir;

use super::request::ContainerRequest;
use spotter_registry::blobs::{self, BlobSource, Pieces};
use spotter_registry::manifest::MAX_MANIFEST_BYTES;
use spotter_registry::{digest, is_component, platform};

/// The folder of the application in the image's layers, unpacked. `None` if the layers are not an application,
/// or there is no image.
///
/// # Errors
/// If containerd lacks some content, content is damaged, or the application cannot be unpacked.
pub async fn application(request: &ContainerRequest) -> anyhow::Result<Option<PathBuf>> {
    let address = &request.containerd;
    let channel = containerd_client::connect(address).await;
    let channel = channel.with_context(|| format!("cannot reach containerd on {address}"))?;
    let store = ContentStore { channel, namespace: request.namespace.clone() };
    let Some(digest) = store.image_digest(&request.id).await? else { return Ok(None) };
    let (digest, manifest) = store.manifest(digest).await?;
    if !manifest.layers.iter().any(|layer| is_component(&layer.media_type)) {
        return Ok(None);
    }
    // Another process may be unpacking it too, and no pod may see it before it is complete and readable.
    let layers = &manifest.layers;
    let folder = blobs::application(&store, &digest, layers, make_world_readable, |_| {}).await;
    Ok(Some(folder.context("cannot use the image")?))
}

/// Makes files readable by everyone: a pod's user is seldom root.
fn make_world_readable(folder: &Path) -> anyhow::Result<()> {
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        let mode = if entry.file_type().is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode))
            .with_context(|| {
                format!("cannot make {} readable by everyone", entry.path().display())
            })?;
    }
    Ok(())
}

/// containerd's content store, in one namespace.
struct ContentStore {
    channel: Channel,
    namespace: String,
}

impl ContentStore {
    /// The digest of a container's image; `None` if it has no image, or the image has been removed.
    async fn image_digest(&self, container: &str) -> anyhow::Result<Option<String>> {
        let request = GetContainerRequest { id: container.to_owned() };
        let mut containers = ContainersClient::new(self.channel.clone());
        let found = containers.get(with_namespace!(request, self.namespace)).await;
        let found = found.with_context(|| format!("containerd has no container {container}"))?;
        let name = found.into_inner().container.map(|container| container.image);
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        let request = GetImageRequest { name: name.clone() };
        let mut images = ImagesClient::new(self.channel.clone());
        match images.get(with_namespace!(request, self.namespace)).await {
            Ok(found) => {
                let target = found.into_inner().image.and_then(|image| image.target);
                Ok(Some(target.with_context(|| format!("{name} has no manifest"))?.digest))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => {
                Err(status).with_context(|| format!("cannot read {name} from containerd"))
            }
        }
    }

    /// The manifest of an image. In an index, that is the image for WebAssembly, or else for this machine.
    async fn manifest(&self, digest: String) -> anyhow::Result<(String, OciImageManifest)> {
        let parse = |digest: &str, bytes: &[u8]| {
            serde_json::from_slice::<OciManifest>(bytes)
                .with_context(|| format!("cannot read the image's manifest {digest}"))
        };
        let index = match parse(&digest, &self.read(&digest).await?)? {
            OciManifest::Image(manifest) => return Ok((digest, manifest)),
            OciManifest::ImageIndex(index) => index,
        };
        let digest = platform::choose(&index.manifests)
            .context("the image has no variant for WebAssembly, or for Linux on this architecture")?
            .digest
            .clone();
        match parse(&digest, &self.read(&digest).await?)? {
            OciManifest::Image(manifest) => Ok((digest, manifest)),
            OciManifest::ImageIndex(_) => anyhow::bail!("the image's index contains another index"),
        }
    }

    /// Reads a manifest or an index, and verifies its digest.
    async fn read(&self, digest: &str) -> anyhow::Result<Vec<u8>> {
        let mut pieces = self.stream(digest).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
            ensure!(
                bytes.len() <= MAX_MANIFEST_BYTES,
                "the image's manifest {digest} has more than {MAX_MANIFEST_BYTES} bytes"
            );
        }
        ensure!(
            digest::sha256(&bytes) == digest,
            "the image's content {digest} does not match its digest: it is damaged; pull the image again"
        );
        Ok(bytes)
    }

    async fn stream(&self, digest: &str) -> anyhow::Result<Pieces<'static>> {
        let missing = format!("cannot read the image's content {digest} from containerd");
        let request = ReadContentRequest { digest: digest.to_owned(), ..Default::default() };
        let mut content = ContentClient::new(self.channel.clone());
        let read = content.read(with_namespace!(request, self.namespace)).await;
        let pieces = read.with_context(|| missing.clone())?.into_inner();
        Ok(Box::pin(pieces.map(move |piece| {
            piece.map(|piece| Bytes::from(piece.data)).with_context(|| missing.clone())
        })))
    }
}

impl BlobSource for ContentStore {
    async fn open(&self, descriptor: &OciDescriptor) -> anyhow::Result<Pieces<'_>> {
        self.stream(&descriptor.digest).await
    }
}
