//! Fetches an image's layers, from a registry or from containerd's store, into files. Sizes are checked before the
//! download and digests during it, so that only one chunk at a time is in memory.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use oci_client::manifest::OciDescriptor;
use sha2::{Digest, Sha256};

use super::layer::Layer;
use super::{MAX_IMAGE_BYTES, digest, in_use, unpack};
use spotter_cache as cache;

/// The most layers that an image may have.
const MAX_LAYERS: usize = 10_000;

/// The content of a blob, in chunks.
pub type Pieces<'a> = Pin<Box<dyn Stream<Item = anyhow::Result<Bytes>> + Send + 'a>>;

/// Where blobs come from.
pub trait BlobSource {
    /// Opens the blob of a descriptor. The reader checks its size and its digest.
    fn open(
        &self,
        descriptor: &OciDescriptor,
    ) -> impl Future<Output = anyhow::Result<Pieces<'_>>> + Send;
}

/// The folder of an image's application in the cache, where it stays as long as this process runs. Fetches and unpacks
/// the application if it is not there yet. Calls `prepare` with the folder, which may be unpacked by a program that
/// prepared it otherwise, and `advance` with the number of bytes of each chunk.
///
/// # Errors
/// If a blob cannot be fetched, or is not what its descriptor says, or the layers contain no application.
pub async fn application(
    source: &impl BlobSource,
    digest: &str,
    layers: &[OciDescriptor],
    prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    advance: impl Fn(u64),
) -> anyhow::Result<PathBuf> {
    let name = digest.trim_start_matches("sha256:");
    ensure!(
        !name.is_empty() && name.chars().all(|c| c.is_ascii_hexdigit()),
        "{digest:?} is not a SHA-256 digest"
    );
    let applications = cache::folder("applications")?;
    let folder = applications.join(name);
    if in_use::hold(&folder) {
        prepare(&folder)?;
        return Ok(folder);
    }
    check(layers)?;
    in_use::remove_unused(&applications);
    let temporary = tempfile::tempdir_in(&applications).context("cannot unpack the image")?;
    // Locked, so that no process takes it for the remains of a killed one, however long this takes.
    let unpacking = File::open(temporary.path())?;
    unpacking.lock_shared().context("cannot lock the image's folder")?;
    let (fetched, unpacked) = (temporary.path().join("layers"), temporary.path().join("unpacked"));
    fs::create_dir(&fetched).with_context(|| format!("cannot create {}", fetched.display()))?;
    let mut files = Vec::new();
    for (number, descriptor) in layers.iter().enumerate() {
        let file = fetched.join(number.to_string());
        fetch(source, descriptor, &file, &advance).await?;
        let (media_type, digest) = (descriptor.media_type.clone(), descriptor.digest.clone());
        files.push(Layer { media_type, digest, file });
    }
    unpack::unpack(&files, &unpacked)?;
    prepare(&unpacked)?;
    // Otherwise a power failure could leave empty files in a folder that looks complete.
    rustix::fs::syncfs(File::open(&unpacked)?).context("cannot write the image to the disk")?;
    // A folder without a manifest was left by a process that was killed.
    if folder.exists() && !folder.join("spin.toml").exists() {
        let _ = fs::remove_dir_all(&folder);
    }
    // Another process may have been faster.
    let _ = fs::rename(&unpacked, &folder);
    ensure!(in_use::hold(&folder), "cannot write {}", folder.display());
    Ok(folder)
}

/// Checks what a manifest says about its layers, and returns their size in bytes.
///
/// # Errors
/// If there are too many, a size is impossible, or they are too large together.
pub fn check(layers: &[OciDescriptor]) -> anyhow::Result<u64> {
    ensure!(
        layers.len() <= MAX_LAYERS,
        "the image has {} layers; the maximum is {MAX_LAYERS}",
        layers.len()
    );
    let mut total: u64 = 0;
    for layer in layers {
        let size = u64::try_from(layer.size);
        let size = size.with_context(|| {
            format!("the layer {} has the impossible size {}", layer.digest, layer.size)
        })?;
        total = total.saturating_add(size);
    }
    ensure!(
        total <= MAX_IMAGE_BYTES,
        "the image has {total} bytes of layers; the maximum is {MAX_IMAGE_BYTES}"
    );
    Ok(total)
}

/// Writes one layer to a file.
async fn fetch(
    source: &impl BlobSource,
    descriptor: &OciDescriptor,
    path: &Path,
    advance: impl Fn(u64),
) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let size = descriptor.size.unsigned_abs();
    let mut pieces = source.open(descriptor).await?;
    let mut options = File::options();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    let (mut hash, mut length) = (Sha256::new(), 0_u64);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        length += piece.len() as u64;
        ensure!(
            length <= size,
            "the layer {} is longer than the {size} bytes in the manifest",
            descriptor.digest
        );
        hash.update(&piece);
        file.write_all(&piece).with_context(failed)?;
        advance(piece.len() as u64);
    }
    ensure!(
        digest::in_oci_notation(&hash.finalize()) == descriptor.digest,
        "the content of the layer {} does not match its digest: it is damaged or has been changed; pull the image again",
        descriptor.digest
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MAX_IMAGE_BYTES, MAX_LAYERS, OciDescriptor, check};

    fn layers(sizes: &[i64]) -> Vec<OciDescriptor> {
        sizes.iter().map(|size| OciDescriptor { size: *size, ..OciDescriptor::default() }).collect()
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let most = i64::try_from(MAX_IMAGE_BYTES).unwrap();
        assert_eq!(check(&layers(&[1, most - 1])).unwrap(), MAX_IMAGE_BYTES);
        for sizes in [[-9_000_000_000_000, 1], [1, -1], [most, 1], [i64::MAX, i64::MAX]] {
            assert!(check(&layers(&sizes)).is_err(), "{sizes:?}");
        }
        assert!(check(&layers(&vec![0; MAX_LAYERS + 1])).is_err());
    }
}
