//! Pictures as base64 text.

use ::base64::Engine;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::error::Error;

const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &::base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes standard base64 (RFC 4648), with or without padding, line breaks, or the prefix
/// `data:image/…;base64,` that browsers add.
///
/// # Errors
/// [`Error::BadBase64`].
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Error> {
    let data = match text.split_once(";base64,") {
        Some((scheme, data)) if scheme.starts_with("data:") => data,
        _ => text,
    };
    let compact: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    LENIENT_BASE64.decode(compact).map_err(|error| Error::BadBase64 { reason: error.to_string() })
}

/// Encodes bytes, with padding.
pub(super) fn encode(bytes: &[u8]) -> String {
    LENIENT_BASE64.encode(bytes)
}
