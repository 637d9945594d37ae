//! Downloads components that a manifest names by a URL and a digest into the cache.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use reqwest::Response;
use sha2::{Digest, Sha256};
use spotter_app::remote_source::RemoteSource;
use spotter_cache::{self as cache, Retention};
use spotter_progress::ProgressStep;

use super::{MAX_IMAGE_BYTES, digest};
use crate::connection::REPLY_TIMEOUT;

/// The folder of downloaded components, which are named after their digests.
///
/// # Errors
/// If the user has no cache directory, or the folder cannot be created or trusted.
pub fn folder() -> anyhow::Result<PathBuf> {
    cache::folder("downloads")
}

/// Downloads a component to `file`, which is in [`folder`], unless it is there already.
///
/// # Errors
/// If the server cannot be reached or answers with an error, or what it sends is too large or does not
/// have the digest.
pub async fn fetch(remote: &RemoteSource, file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        cache::touch(file);
        return Ok(());
    }
    let folder = file.parent().context("a download needs a folder")?;
    Retention::default().sweep(folder, |unused| fs::remove_file(unused).is_ok());
    let url = &remote.url;
    let client = reqwest::Client::builder().read_timeout(REPLY_TIMEOUT).build();
    let sent = client.context("cannot start the HTTP client")?.get(url).send().await;
    let response = sent.with_context(|| format!("cannot reach {url}"))?;
    ensure!(response.status().is_success(), "{url} replied {}", response.status());
    let step = ProgressStep::for_bytes(
        format!("Downloading {url}"),
        response.content_length().unwrap_or_default(),
    );
    let mut download = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot create a file in {}", folder.display()))?;
    let digest = write(response, download.as_file_mut(), |bytes| step.advance(bytes)).await;
    let digest = digest.with_context(|| format!("cannot download {url}"))?;
    ensure!(
        digest == remote.digest,
        "the file at {url} has the digest {digest}, but the manifest says {}: it has changed, or is a different file; \
         if you trust it, correct `digest`",
        remote.digest
    );
    download.as_file().sync_all().with_context(|| format!("cannot write {}", file.display()))?;
    download.persist(file).with_context(|| format!("cannot write {}", file.display()))?;
    step.done(format!("Downloaded {url}"));
    Ok(())
}

/// Writes a response's body to a file, and returns its digest.
async fn write(
    mut response: Response,
    file: &mut fs::File,
    advance: impl Fn(u64),
) -> anyhow::Result<String> {
    let (mut hash, mut length) = (Sha256::new(), 0_u64);
    while let Some(piece) = response.chunk().await.context("the transfer ended early")? {
        length += piece.len() as u64;
        ensure!(length <= MAX_IMAGE_BYTES, "it has more than {MAX_IMAGE_BYTES} bytes");
        hash.update(&piece);
        file.write_all(&piece)?;
        advance(piece.len() as u64);
    }
    Ok(digest::in_oci_notation(&hash.finalize()))
}
