//! Limits on a message's repeated fields, checked before it is decoded: an empty element takes two bytes when encoded,
//! but a hundred in memory.

use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};

use crate::error::Error;

/// A field that may repeat.
pub(super) struct FieldLimit {
    pub(super) field: &'static str,
    pub(super) tag: u32,
    /// How often the field may occur.
    pub(super) max_count: usize,
    /// How many bytes all its occurrences may take together, encoded.
    pub(super) max_bytes: usize,
}

/// Checks the fields of an encoded message.
///
/// # Errors
/// If the message is malformed, or a field exceeds its limit.
pub(super) fn check(message: &[u8], limits: &[FieldLimit]) -> Result<(), Error> {
    let malformed = |error: prost::DecodeError| Error::BadMessage { reason: error.to_string() };
    let mut found = vec![(0_usize, 0_usize); limits.len()];
    let mut rest = message;
    while !rest.is_empty() {
        let before = rest.len();
        let (tag, wire_type) = decode_key(&mut rest).map_err(malformed)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(malformed)?;
        for (limit, (count, bytes)) in limits.iter().zip(&mut found) {
            if limit.tag != tag {
                continue;
            }
            *count += 1;
            *bytes += before - rest.len();
            if *count > limit.max_count || *bytes > limit.max_bytes {
                let FieldLimit { field, max_count, max_bytes, .. } = limit;
                let reason = format!(
                    "`{field}` is too long: send at most {max_count} entries, of {max_bytes} bytes in total"
                );
                return Err(Error::BadMessage { reason });
            }
        }
    }
    Ok(())
}

/// Decodes packed numbers that must be bytes.
///
/// # Errors
/// If they are malformed, or one exceeds 255.
pub(super) fn decode_packed_bytes(mut packed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while !packed.is_empty() {
        let number = decode_varint(&mut packed)
            .map_err(|error| Error::BadMessage { reason: error.to_string() })?;
        let byte = u8::try_from(number).map_err(|_| Error::BadTensor {
            reason: format!("{number} is not a number from 0 to 255"),
        })?;
        bytes.push(byte);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{FieldLimit, check, decode_packed_bytes};

    #[test]
    fn a_field_that_repeats_too_often_is_refused_before_it_is_decoded() {
        let limits = [FieldLimit { field: "inputs", tag: 5, max_count: 2, max_bytes: 100 }];
        assert!(check(&[0x2a, 0].repeat(2), &limits).is_ok());
        let error = check(&[0x2a, 0].repeat(3), &limits).unwrap_err().to_string();
        assert!(error.contains("`inputs` is too long"), "{error}");
        let long = [&[0x2a, 100][..], &[0; 100]].concat();
        assert!(check(&long, &limits).is_err());
        assert!(check(&[0x2a, 9, 0], &limits).is_err(), "cut short");
    }

    #[test]
    fn packed_numbers_are_bytes() {
        assert_eq!(decode_packed_bytes(&[1, 0xff, 1, 0]).unwrap(), [1, 255, 0]);
        assert!(decode_packed_bytes(&[0x80, 2]).is_err(), "256");
        assert!(decode_packed_bytes(&[0x80]).is_err(), "cut short");
    }
}
