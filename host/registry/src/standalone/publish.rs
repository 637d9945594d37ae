//! Writes a standalone image as an OCI archive, and pushes it to a registry.

use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use oci_client::{Client, Reference};
use serde_json::{Value, json};

use super::{StandaloneImage, Variant};
use crate::archive::{INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, append, descriptor, fully_qualified};
use crate::digest::sha256;
use crate::session::Session;
use crate::{PushedImage, Transport, manifest};
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
            append(&mut archive, &format!("blobs/{}", sha256(blob).replace(':', "/")), blob)?;
        }
        write_atomically(output, &archive.into_inner()?)?;
        Ok(top["digest"].as_str().unwrap_or_default().to_owned())
    }

    /// Pushes it.
    ///
    /// # Errors
    /// If the registry cannot be reached, or rejects the image or the login.
    pub async fn push(
        &self,
        reference: &Reference,
        transport: Transport,
    ) -> anyhow::Result<PushedImage> {
        let session = Session::to_push(reference, transport).await?;
        session.with_client(async |client| self.upload(client, &session).await).await
    }

    async fn upload(&self, client: &Client, session: &Session<'_>) -> anyhow::Result<PushedImage> {
        let reference = session.reference();
        let total = self.blobs.values().map(|blob| blob.len() as u64).sum();
        let step = ProgressStep::for_bytes(format!("Pushing {reference}"), total);
        let refused = |error| session.refused(error);
        for (digest, blob) in &self.blobs {
            if !client.blob_exists(reference, digest).await.unwrap_or_default() {
                client.push_blob(reference, blob.clone(), digest).await.map_err(refused)?;
            }
            step.advance(blob.len() as u64);
        }
        let (top, media_type) = match self.index() {
            Some(index) => {
                // Only the index has the tag.
                for Variant { manifest, .. } in &self.variants {
                    let version = sha256(manifest);
                    session.put_manifest(&version, MANIFEST_MEDIA_TYPE, manifest.clone()).await?;
                }
                (index, INDEX_MEDIA_TYPE)
            }
            None => {
                let only = self.variants.first().context("the image has no variant")?;
                (only.manifest.clone(), MANIFEST_MEDIA_TYPE)
            }
        };
        session.put_manifest(manifest::version(reference), media_type, top.clone()).await?;
        step.done(format!("Pushed {reference}"));
        Ok(PushedImage::new(media_type, &top))
    }
}
