//! Digests in the notation of OCI
//! (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>).

use sha2::{Digest, Sha256};

/// The digest of bytes in OCI notation.
pub fn sha256(bytes: &[u8]) -> String {
    in_oci_notation(&Sha256::digest(bytes))
}

/// A SHA-256 hash in OCI notation.
pub(super) fn in_oci_notation(hash: &[u8]) -> String {
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}
