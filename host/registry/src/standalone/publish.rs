//! Writes a standalone image as an OCI archive, and pushes it to a registry.

use std::path::Path;

use bytes::Bytes;
use http::HeaderValue;
use oci_client::{Client, Reference};
use serde_json::{Value, json};

use super::{StandaloneImage, Variant};
use crate::archive::{INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, append, descriptor, fully_qualified};
use crate::pack::digest;
use crate::refused;
use crate::session::Session;
use spotter_cache::write_atomically;
use spotter_progress::ProgressStep;

impl Variant {
    /// Its entry in an index.
    fn entry(&self) -> Value {
        let mut entry = descriptor(MANIFEST_MEDIA_TYPE, &self.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": self.platform.architecture()});
        entry
    }
}

impl StandaloneImage {
    /// The index of several variants; `None` if there is only one.
    fn index(&self) -> Option<Bytes> {
        let entries: Vec<Value> = self.variants.iter().map(Variant::entry).collect();
        let index =
            json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": entries});
        (entries.len() > 1).then(|| index.to_string().into())
    }

    /// Writes an OCI archive, and returns the digest of the image: of its index if it has several variants, or else of
    /// its manifest.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, name: &str, output: &Path) -> anyhow::Result<String> {
        let index = self.index();
        let mut blobs: Vec<&Bytes> = self.blobs.values().collect();
        blobs.extend(self.variants.iter().map(|variant| &variant.manifest));
        blobs.extend(index.as_ref());
        let mut top = match (&index, self.variants.first()) {
            (None, Some(only)) => only.entry(),
            (index, _) => descriptor(INDEX_MEDIA_TYPE, index.as_deref().unwrap_or_default()),
        };
        top["annotations"] = json!({
            "io.containerd.image.name": fully_qualified(name),
            "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        });
        let layout = json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [top]})
            .to_string();
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", layout.as_bytes())?;
        for blob in blobs {
            append(&mut archive, &format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
        }
        write_atomically(output, &archive.into_inner()?)?;
        Ok(top["digest"].as_str().unwrap_or_default().to_owned())
    }

    /// Pushes it, and returns the digest as [`StandaloneImage::write`] does.
    ///
    /// # Errors
    /// If the registry cannot be reached, or rejects the image or the login.
    pub async fn push(&self, reference: &Reference) -> anyhow::Result<String> {
        let upload = async |client: &Client| self.upload(client, reference).await;
        Session::to_push(reference)?.with_client(upload).await
    }

    async fn upload(&self, client: &Client, reference: &Reference) -> anyhow::Result<String> {
        let total = self.blobs.values().map(|blob| blob.len() as u64).sum();
        let step = ProgressStep::for_bytes(format!("Pushing {reference}"), total);
        let refused = |error| refused(reference, error);
        for (digest, blob) in &self.blobs {
            if !client.blob_exists(reference, digest).await.unwrap_or_default() {
                client.push_blob(reference, blob.clone(), digest).await.map_err(refused)?;
            }
            step.advance(blob.len() as u64);
        }
        let push = async |to: &Reference, bytes: &Bytes, kind| {
            let kind = HeaderValue::from_static(kind);
            client.push_manifest_raw(to, bytes.clone(), kind).await.map_err(refused)
        };
        let index = self.index();
        for Variant { manifest, .. } in &self.variants {
            // In an index, only the index has the tag.
            let by_digest = reference.clone_with_digest(digest(manifest));
            let target = if index.is_some() { &by_digest } else { reference };
            push(target, manifest, MANIFEST_MEDIA_TYPE).await?;
        }
        if let Some(index) = &index {
            push(reference, index, INDEX_MEDIA_TYPE).await?;
        }
        step.done(format!("Pushed {reference}"));
        let top = index.as_ref().or(self.variants.first().map(|only| &only.manifest));
        Ok(top.map(|bytes| digest(bytes)).unwrap_or_default())
    }
}
