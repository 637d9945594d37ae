//! Uploads manifests and small blobs. Unlike oci-client's, these requests time out, and only the beginning
//! of an error reply is read.

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;

use super::{Session, read, with_credentials};
use crate::connection::REPLY_TIMEOUT;
use crate::digest;

/// The largest refusal that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// How much of a refusal's reason is shown.
const MAX_REASON_CHARACTERS: usize = 500;

impl Session<'_> {
    /// Uploads a blob in one request.
    ///
    /// # Errors
    /// If the registry cannot be reached or refuses the blob, or names a place to upload it to that is not encrypted.
    pub(crate) async fn push_blob(&self, blob: Bytes) -> anyhow::Result<()> {
        let auth = self.auth().await?;
        // Some registries require the header.
        let begin =
            self.connection.http.post(self.part("blobs/uploads/")).header(CONTENT_LENGTH, 0);
        let begun = self.upload(with_credentials(begin, &auth)).await?;
        let mut target = self.upload_target(&begun)?;
        target.query_pairs_mut().append_pair("digest", &digest::sha256(&blob));
        let is_its_own = target.origin() == self.url("").parse::<Url>()?.origin();
        let put = self
            .connection
            .http
            .put(target)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(blob);
        // Another server must not see the credentials.
        let put = if is_its_own { with_credentials(put, &auth) } else { put };
        self.upload(put).await.map(drop)
    }

    /// Uploads a manifest under a tag or its digest, and returns the headers of the reply.
    ///
    /// # Errors
    /// If the registry cannot be reached, or refuses the manifest.
    pub(crate) async fn put_manifest(
        &self,
        version: &str,
        media_type: &'static str,
        manifest: Bytes,
    ) -> anyhow::Result<HeaderMap> {
        let auth = self.auth().await?;
        let put = self.connection.http.put(self.part(&format!("manifests/{version}")));
        let put = put.header(CONTENT_TYPE, media_type).body(manifest);
        let response = self.upload(with_credentials(put, &auth)).await?;
        Ok(response.headers().clone())
    }

    async fn upload(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = self.send(request.timeout(REPLY_TIMEOUT)).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // The query may hold the state of the upload, and a signature.
        let mut url = response.url().clone();
        url.set_query(None);
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            return Err(self.refusal(url.into(), status));
        }
        let registry = self.reference.resolve_registry();
        let reason = reason(response).await;
        Err(anyhow!("{registry} replied {status} to an upload to {url}{reason}"))
    }

    /// Where the registry wants a blob.
    fn upload_target(&self, begun: &Response) -> anyhow::Result<Url> {
        let registry = self.reference.resolve_registry();
        let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.with_context(|| {
            format!("{registry} does not say where to upload to: its reply has no Location")
        })?;
        let target = begun.url().join(location).with_context(|| {
            format!("{registry} names {location:?} as the place to upload to, which is not a URL")
        })?;
        ensure!(
            target.scheme() == "https" || target.scheme() == self.connection.scheme,
            "{registry} names {location:?} as the place to upload to; Spotter uploads over HTTPS only"
        );
        Ok(target)
    }
}

/// A registry's errors
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>).
#[derive(Deserialize)]
struct Refusal {
    errors: Vec<RefusalReason>,
}

#[derive(Deserialize)]
struct RefusalReason {
    code: String,
    #[serde(default)]
    message: String,
}

/// The reasons in a registry's refusal, each after a colon; empty if it gives none.
async fn reason(response: Response) -> String {
    let body = read(response, MAX_REFUSAL_BYTES, "refusal").await.unwrap_or_default();
    let refusal = serde_json::from_slice::<Refusal>(&body);
    let reasons = refusal.map(|refusal| refusal.errors).unwrap_or_default();
    let text: String =
        reasons.iter().map(|reason| format!(": {} {}", reason.code, reason.message)).collect();
    // A terminal would obey control characters.
    text.chars().filter(|character| !character.is_control()).take(MAX_REASON_CHARACTERS).collect()
}
