//! Fetches an image's manifest from a registry.

use anyhow::{Context, bail, ensure};
use oci_client::Reference;
use oci_client::manifest::{OciImageManifest, OciManifest};

use super::session::{self, Session};
use super::{digest, platform};

/// The largest manifest that is read, in bytes: the most that registries take.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// The media types of manifests and indexes, OCI's and Docker's.
pub(super) const ACCEPTED_MEDIA_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// The manifest of an image, and its digest. In an index, that is the image for WebAssembly, or else for this machine.
///
/// # Errors
/// If the registry cannot be reached or refuses, or sends something that is not a manifest.
pub(super) async fn pull(
    session: &Session<'_>,
    reference: &Reference,
) -> anyhow::Result<(OciImageManifest, String)> {
    let index = match fetch(session, reference).await? {
        (OciManifest::Image(manifest), digest) => return Ok((manifest, digest)),
        (OciManifest::ImageIndex(index), _) => index,
    };
    let entry = platform::choose(&index.manifests).with_context(|| {
        format!(
            "{reference} has no variant for WebAssembly, and none for linux/{}",
            platform::architecture()
        )
    })?;
    match fetch(session, &reference.clone_with_digest(entry.digest.clone())).await? {
        (OciManifest::Image(manifest), digest) => Ok((manifest, digest)),
        (OciManifest::ImageIndex(_), _) => bail!("the index of {reference} contains another index"),
    }
}

/// The digest or tag in a reference.
pub(super) fn version(reference: &Reference) -> &str {
    reference.digest().or_else(|| reference.tag()).unwrap_or("latest")
}

/// Fetches what a reference names, a manifest or an index, and its digest.
///
/// # Errors
/// As [`pull`].
async fn fetch(
    session: &Session<'_>,
    reference: &Reference,
) -> anyhow::Result<(OciManifest, String)> {
    let path = format!("manifests/{}", version(reference));
    let response = session.get(&path, ACCEPTED_MEDIA_TYPES).await?;
    let body = session::read(response, MAX_MANIFEST_BYTES, "manifest").await;
    let body = body.with_context(|| format!("cannot use {reference}"))?;
    let digest = digest::sha256(&body);
    ensure!(
        reference.digest().is_none_or(|wanted| wanted == digest),
        "the manifest of {reference} does not match its digest: it is damaged or has been changed; pull the \
         image again"
    );
    let manifest = serde_json::from_slice(&body).with_context(|| {
        format!(
            "{} sent something for {reference} that is not a manifest",
            reference.resolve_registry()
        )
    })?;
    Ok((manifest, digest))
}
