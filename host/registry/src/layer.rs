//! One layer of an image, in a file.

use std::path::{Path, PathBuf};

use super::digest;
use spotter_cache as cache;

/// A layer of an image, in a file.
pub struct Layer {
    pub media_type: String,
    pub digest: String,
    pub file: PathBuf,
}

impl Layer {
    /// Writes a layer that is in memory into a folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(folder: &Path, media_type: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        let digest = digest::sha256(bytes);
        let file = folder.join(digest.replace(':', "-"));
        cache::write_atomically(&file, bytes)?;
        Ok(Self { media_type: media_type.to_owned(), digest, file })
    }
}
