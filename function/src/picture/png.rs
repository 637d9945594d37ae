//! The size of a PNG's colour profile, which is compressed and may inflate to a thousand times its size.

use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::error::Error;

/// The memory that a picture's metadata may take: colour profile, EXIF, text.
pub(super) const MAX_METADATA_BYTES: u64 = 16 << 20;

const SIGNATURE_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// Rejects a PNG whose colour profile (`iCCP`) is too large. The decoder only ignores such a profile. The
/// profile is not kept, so this takes no memory.
///
/// # Errors
/// [`Error::MetadataTooLarge`].
pub(super) fn check_profile(bytes: &[u8]) -> Result<(), Error> {
    let mut rest = bytes.get(SIGNATURE_BYTES..).unwrap_or_default();
    while let [a, b, c, d, t0, t1, t2, t3, tail @ ..] = rest {
        let name = &[*t0, *t1, *t2, *t3];
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        // A profile precedes the pixels (PNG specification, third edition, 5.6).
        if name == b"IDAT" {
            break;
        }
        let content = tail.get(..length).unwrap_or(tail);
        // The decoder rejects a second profile.
        if name == b"iCCP" {
            return if inflated(content) > MAX_METADATA_BYTES {
                Err(Error::MetadataTooLarge { limit: MAX_METADATA_BYTES >> 20 })
            } else {
                Ok(())
            };
        }
        rest = tail.get(length.saturating_add(CHECKSUM_BYTES)..).unwrap_or_default();
    }
    Ok(())
}

/// The profile's size, up to one byte more than the limit. If the data are damaged, only what precedes the damage
/// counts.
fn inflated(content: &[u8]) -> u64 {
    // The name ends with a zero byte, and a byte for the method follows.
    let name = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    let compressed = content.get(name + 2..).unwrap_or_default();
    let mut profile = ZlibDecoder::new(compressed).take(MAX_METADATA_BYTES + 1);
    let mut size = 0;
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = profile.read(&mut buffer) {
        size += read as u64;
    }
    size
}
