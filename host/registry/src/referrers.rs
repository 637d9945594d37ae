//! Attaches documents to an image in a registry, as its referrers
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject>).

use anyhow::Context;
use bytes::Bytes;
use oci_client::Reference;
use serde_json::{Map, Value, json};

use super::archive::{INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, descriptor};
use super::manifest::{ACCEPTED_MEDIA_TYPES, MAX_MANIFEST_BYTES};
use super::session::{self, Session};
use super::{PushedImage, Transport, digest};
use spotter_progress::ProgressStep;

/// The configuration of a manifest that needs none.
const EMPTY_MEDIA_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY_CONFIG: &[u8] = b"{}";

/// The header in which a registry says that it lists a manifest among the referrers of this one.
const SUBJECT_HEADER: &str = "oci-subject";

/// A document about an image.
pub struct Referrer {
    /// What messages call it.
    pub title: &'static str,
    /// The media type, of the manifest and of the document.
    pub artifact_type: &'static str,
    /// The name of the file that other tools write it to.
    pub file_name: &'static str,
    pub annotations: Map<String, Value>,
    pub document: Bytes,
}

impl Referrer {
    /// The manifest that refers to the image.
    fn manifest(&self, image: &PushedImage) -> String {
        let mut layer = descriptor(self.artifact_type, &self.document);
        layer["annotations"] = json!({"org.opencontainers.image.title": self.file_name});
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": self.artifact_type,
            "config": descriptor(EMPTY_MEDIA_TYPE, EMPTY_CONFIG),
            "layers": [layer],
            "subject": image,
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = json!(self.annotations);
        }
        manifest.to_string()
    }

    /// The manifest's entry in a list of referrers.
    fn entry(&self, manifest: &str) -> Value {
        let mut entry = descriptor(MANIFEST_MEDIA_TYPE, manifest.as_bytes());
        entry["artifactType"] = self.artifact_type.into();
        if !self.annotations.is_empty() {
            entry["annotations"] = json!(self.annotations);
        }
        entry
    }
}

/// Attaches documents to an image that was pushed. Attaching the same one again changes nothing.
///
/// # Errors
/// If the registry cannot be reached or refuses one. The error says that the image is there.
pub async fn attach(
    reference: &Reference,
    transport: Transport,
    image: &PushedImage,
    referrers: &[Referrer],
) -> anyhow::Result<()> {
    if referrers.is_empty() {
        return Ok(());
    }
    let session = Session::to_push(reference, transport).await.with_context(|| {
        let digest = &image.digest;
        format!("the image {reference} was pushed ({digest}), but the documents about it were not")
    })?;
    for referrer in referrers {
        let title = referrer.title;
        let step = ProgressStep::start(format!("Pushing the {title} of {reference}"));
        attach_one(&session, image, referrer).await.with_context(|| {
            let digest = &image.digest;
            format!("the image {reference} was pushed ({digest}), but its {title} was not")
        })?;
        step.done(format!("Pushed the {title} of {reference}"));
    }
    Ok(())
}

async fn attach_one(
    session: &Session<'_>,
    image: &PushedImage,
    referrer: &Referrer,
) -> anyhow::Result<()> {
    session.push_blob(Bytes::from_static(EMPTY_CONFIG)).await?;
    session.push_blob(referrer.document.clone()).await?;
    let manifest = referrer.manifest(image);
    let entry = referrer.entry(&manifest);
    let digest = digest::sha256(manifest.as_bytes());
    let reply = session.put_manifest(&digest, MANIFEST_MEDIA_TYPE, manifest.into()).await?;
    if reply.get(SUBJECT_HEADER).is_some_and(|subject| subject == image.digest.as_str()) {
        return Ok(());
    }
    list(session, image, entry).await
}

/// Adds an entry to the list of referrers under the tag where clients look if the registry itself keeps no such lists
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema>).
async fn list(session: &Session<'_>, image: &PushedImage, entry: Value) -> anyhow::Result<()> {
    let tag = image.digest.replace(':', "-");
    let list = match session.find(&format!("manifests/{tag}"), ACCEPTED_MEDIA_TYPES).await? {
        Some(response) => session::read(response, MAX_MANIFEST_BYTES, "list of referrers").await?,
        None => json!({"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": []})
            .to_string()
            .into_bytes(),
    };
    let longer = with_entry(&list, entry).with_context(|| {
        format!("the registry's tag {tag} is not an index of referrers; remove that tag")
    })?;
    if let Some(longer) = longer {
        session.put_manifest(&tag, INDEX_MEDIA_TYPE, longer.to_string().into()).await?;
    }
    Ok(())
}

/// A list of referrers with a further entry, and with all that it had before; `None` if it has this entry already.
fn with_entry(list: &[u8], entry: Value) -> anyhow::Result<Option<Value>> {
    let mut list: Value = serde_json::from_slice(list).context("it cannot be parsed")?;
    let is_index = list.get("mediaType").is_none_or(|media_type| media_type == INDEX_MEDIA_TYPE);
    let entries = list.get_mut("manifests").and_then(Value::as_array_mut);
    let entries = entries.filter(|_| is_index).context("it is not an OCI index")?;
    if entries.iter().any(|present| present["digest"] == entry["digest"]) {
        return Ok(None);
    }
    entries.push(entry);
    Ok(Some(list))
}

#[cfg(test)]
mod tests {
    use super::{INDEX_MEDIA_TYPE, Map, PushedImage, Referrer, Value, json, with_entry};

    fn referrer(annotations: Map<String, Value>) -> Referrer {
        Referrer {
            title: "SBOM",
            artifact_type: "application/vnd.cyclonedx+json",
            file_name: "sbom.cdx.json",
            annotations,
            document: "{}".into(),
        }
    }

    #[test]
    fn a_referrers_manifest_names_the_image_and_has_an_empty_configuration() {
        let image = PushedImage::new(INDEX_MEDIA_TYPE, b"an index");
        let annotations = Map::from_iter([("a".to_owned(), json!("b"))]);
        let sbom = referrer(annotations);
        let text = sbom.manifest(&image);
        assert_eq!(text, sbom.manifest(&image));
        let manifest: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            manifest["subject"],
            json!({"mediaType": INDEX_MEDIA_TYPE, "digest": image.digest, "size": 8})
        );
        assert_eq!(manifest["artifactType"], "application/vnd.cyclonedx+json");
        // The values that the specification gives for the empty descriptor.
        assert_eq!(
            manifest["config"],
            json!({
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2,
            })
        );
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(1));
        assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.cyclonedx+json");
        let entry = sbom.entry(&text);
        assert_eq!(entry["artifactType"], manifest["artifactType"]);
        assert_eq!(entry["annotations"], manifest["annotations"]);
        assert_eq!(entry["size"], text.len());
        assert!(referrer(Map::new()).entry("").get("annotations").is_none());
    }

    #[test]
    fn a_list_keeps_what_it_has_and_gets_no_entry_twice() {
        let list = json!({
            "schemaVersion": 2,
            "mediaType": INDEX_MEDIA_TYPE,
            "manifests": [{"digest": "sha256:1", "artifactType": "another", "data": "e30="}],
            "annotations": {"kept": "too"},
        });
        let entry = json!({"digest": "sha256:2"});
        let longer = with_entry(list.to_string().as_bytes(), entry.clone()).unwrap().unwrap();
        let mut expected = list.clone();
        expected["manifests"] = json!([list["manifests"][0], entry]);
        assert_eq!(longer, expected);
        assert!(with_entry(longer.to_string().as_bytes(), entry).unwrap().is_none());
    }

    #[test]
    fn what_is_no_list_is_left_alone() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"manifests": {}}"#,
            r#"{"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}"#,
            r#"{"mediaType": "application/vnd.oci.image.manifest.v1+json", "manifests": []}"#,
        ] {
            assert!(with_entry(text.as_bytes(), json!({"digest": "sha256:1"})).is_err(), "{text}");
        }
        // A list may leave out its media type.
        assert!(with_entry(br#"{"manifests": [1]}"#, json!({"digest": "a"})).unwrap().is_some());
    }
}
