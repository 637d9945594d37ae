//! Fetches an image's manifest from a registry, with a limit on its size: oci-client reads replies of any length whole.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http::StatusCode;
use http::header::ACCEPT;
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use super::{pack, platform, refused, scheme};

/// The largest manifest that is read, in bytes: the most that registries take.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// How long a registry may take to send a manifest.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The media types of manifests and indexes, OCI's and Docker's.
const ACCEPTED_MEDIA_TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// The manifest of an image, and its digest. In an index, that is the image for WebAssembly, or else for this machine.
///
/// # Errors
/// If the registry cannot be reached or refuses, or sends something that is not a manifest.
pub(super) async fn pull(
    client: &Client,
    reference: &Reference,
    auth: &RegistryAuth,
) -> anyhow::Result<(OciImageManifest, String)> {
    let token = client.auth(reference, auth, RegistryOperation::Pull).await;
    let token = token.map_err(|error| refused(reference, error))?;
    let fetcher = Fetcher { auth, token };
    let index = match fetcher.fetch(reference).await? {
        (OciManifest::Image(manifest), digest) => return Ok((manifest, digest)),
        (OciManifest::ImageIndex(index), _) => index,
    };
    let entry = platform::choose(&index.manifests).with_context(|| {
        format!("{reference} has no variant for WebAssembly, or for Linux on this architecture")
    })?;
    match fetcher.fetch(&reference.clone_with_digest(entry.digest.clone())).await? {
        (OciManifest::Image(manifest), digest) => Ok((manifest, digest)),
        (OciManifest::ImageIndex(_), _) => bail!("the index of {reference} contains another index"),
    }
}

/// Fetches manifests with a login, and with the token that the registry gives for it.
struct Fetcher<'a> {
    auth: &'a RegistryAuth,
    token: Option<String>,
}

impl Fetcher<'_> {
    async fn fetch(&self, reference: &Reference) -> anyhow::Result<(OciManifest, String)> {
        let registry = reference.resolve_registry();
        let version = reference.digest().or_else(|| reference.tag()).unwrap_or("latest");
        let url = format!(
            "{}://{registry}/v2/{}/manifests/{version}",
            scheme(registry),
            reference.repository()
        );
        let body = self.body(&url).await.map_err(|error| match error.downcast() {
            Ok(error) => refused(reference, error),
            Err(error) => error.context(format!("cannot use {reference}")),
        })?;
        let digest = pack::digest(&body);
        ensure!(
            reference.digest().is_none_or(|wanted| wanted == digest),
            "the manifest of {reference} does not match its digest: it is damaged or has been changed"
        );
        let manifest = serde_json::from_slice(&body).with_context(|| {
            format!("{registry} sent something for {reference} that is not a manifest")
        })?;
        Ok((manifest, digest))
    }

    async fn body(&self, url: &str) -> anyhow::Result<Vec<u8>> {
        let http = reqwest::Client::builder().timeout(MANIFEST_TIMEOUT).build();
        let request = http
            .context("cannot start an HTTP client")?
            .get(url)
            .header(ACCEPT, ACCEPTED_MEDIA_TYPES);
        let request = match (&self.token, self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            _ => request,
        };
        let mut response = request.send().await.map_err(OciDistributionError::from)?;
        let url = url.to_owned();
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(OciDistributionError::UnauthorizedError { url }.into());
            }
            StatusCode::NOT_FOUND => {
                return Err(OciDistributionError::ImageManifestNotFoundError(url).into());
            }
            status => {
                let (code, message) = (status.as_u16(), status.to_string());
                return Err(OciDistributionError::ServerError { code, url, message }.into());
            }
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(OciDistributionError::from)? {
            ensure!(
                body.len() + piece.len() <= MAX_MANIFEST_BYTES,
                "the manifest at {url} has more than {MAX_MANIFEST_BYTES} bytes"
            );
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}
