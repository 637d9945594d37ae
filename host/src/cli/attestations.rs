//! The flags of `spotter push` for documents about the image, spelled as `docker buildx build` spells them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;

use crate::attestation::{self, AttestedImage, BuildParameters, provenance, sbom};
use spotter_app::App;
use spotter_registry::Transport;
use spotter_registry::inventory::Inventory;
use spotter_registry::{PushedImage, Reference, referrers};
use spotter_up::block_on;

/// The time that a reproducible build states as its own (<https://reproducible-builds.org/specs/source-date-epoch/>).
const TIME_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Which documents to push.
#[derive(Args)]
pub(super) struct AttestationArguments {
    /// Also push an SBOM, which lists what the image contains (CycloneDX 1.5), as a referrer of the image
    #[arg(long)]
    sbom: bool,
    /// Also push a provenance statement, which says what the image was made from (SLSA 1.0, not signed), as a referrer
    /// of the image
    #[arg(long)]
    provenance: bool,
}

/// Everything for the documents that is known before the image is.
pub(super) struct Attestations {
    wanted: AttestationArguments,
    models: attestation::BakedModels,
    timestamp: Option<String>,
    parameters: BuildParameters,
}

impl AttestationArguments {
    /// Reads what the documents need of an application that is built.
    ///
    /// # Errors
    /// If a component cannot be read, or `SOURCE_DATE_EPOCH` is not a time.
    pub(super) fn prepare(
        self,
        app: &App,
        parameters: BuildParameters,
    ) -> anyhow::Result<Attestations> {
        let (models, timestamp) = if self.sbom {
            let time = std::env::var_os(TIME_VARIABLE);
            (attestation::baked_models(app)?, time.as_deref().map(timestamp).transpose()?)
        } else {
            (BTreeMap::new(), None)
        };
        Ok(Attestations { wanted: self, models, timestamp, parameters })
    }
}

impl Attestations {
    /// Pushes the documents about an image that was pushed.
    ///
    /// # Errors
    /// If the registry cannot be reached, or refuses one. The error says that the image is there.
    pub(super) fn push(
        &self,
        reference: &Reference,
        transport: Transport,
        image: &PushedImage,
        inventory: &Inventory,
    ) -> anyhow::Result<()> {
        let attested = AttestedImage {
            repository: format!("{}/{}", reference.registry(), reference.repository()),
            digest: &image.digest,
            inventory,
        };
        let mut documents = Vec::new();
        if self.wanted.sbom {
            documents.push(sbom::referrer(&attested, &self.models, self.timestamp.as_deref()));
        }
        if self.wanted.provenance {
            documents.push(provenance::referrer(&attested, &self.parameters));
        }
        block_on(referrers::attach(reference, transport, image, &documents))
    }
}

/// A time in seconds since 1970, as RFC 3339 writes it.
fn timestamp(seconds: &OsStr) -> anyhow::Result<String> {
    // 9999-12-31T23:59:59Z: RFC 3339 has no later time.
    const LAST: u64 = 253_402_300_799;
    let number = seconds.to_str().and_then(|text| text.parse().ok());
    let number = number.filter(|number| *number <= LAST).with_context(|| {
        format!("{TIME_VARIABLE} is {seconds:?}; set it to a number of seconds since 1970")
    })?;
    let time = UNIX_EPOCH + Duration::from_secs(number);
    Ok(humantime::format_rfc3339_seconds(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn a_time_is_written_as_rfc_3339_and_no_other_text_is_a_time() {
        for (seconds, expected) in [
            ("0", "1970-01-01T00:00:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("253402300799", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(seconds.as_ref()).unwrap(), expected);
        }
        for text in ["", "now", "-1", "1.5", "253402300800", "18446744073709551615"] {
            let error = timestamp(text.as_ref()).unwrap_err().to_string();
            assert!(error.contains("SOURCE_DATE_EPOCH"), "{text}: {error}");
        }
    }
}
