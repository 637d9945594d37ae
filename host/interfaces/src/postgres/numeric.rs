//! Numbers of any size: how the server sends them.

use bytes::Buf;

use super::budget::Budget;
use super::error::{ClientError, malformed};

/// A number's digits in base 10,000, the most significant first.
struct Groups {
    groups: Vec<u16>,
    /// The power of 10,000 that belongs to the first group.
    first_power: i32,
}

impl Groups {
    fn at(&self, power: i32) -> u16 {
        let index = usize::try_from(self.first_power - power).ok();
        index.and_then(|index| self.groups.get(index)).copied().unwrap_or_default()
    }
}

/// Reads a number as text in base 10.
pub(super) fn numeric(bytes: &mut &[u8], budget: &mut Budget) -> Result<String, ClientError> {
    let (count, first_power) = (bytes.try_get_u16()?, i32::from(bytes.try_get_i16()?));
    let (sign, fraction_digits) = (bytes.try_get_u16()?, bytes.try_get_u16()?);
    let sign = match sign {
        0x0000 => "",
        0x4000 => "-",
        0xc000 => return special("NaN", budget),
        0xd000 => return special("Infinity", budget),
        0xf000 => return special("-Infinity", budget),
        _ => return Err(malformed()),
    };
    let mut groups = Vec::new();
    for _ in 0..count {
        let group = bytes.try_get_u16()?;
        if group > 9999 {
            return Err(malformed());
        }
        groups.push(group);
    }
    let groups = Groups { groups, first_power };
    let fraction_digits = usize::from(fraction_digits);
    let highest_power = first_power.max(0);
    // A few bytes can stand for more than a hundred thousand digits.
    let whole_digits = 4 * (usize::try_from(highest_power).unwrap_or_default() + 1);
    budget.spend(sign.len() + whole_digits + 1 + fraction_digits)?;
    let mut text = format!("{sign}{}", groups.at(highest_power));
    for power in (0..highest_power).rev() {
        push_group(&mut text, groups.at(power));
    }
    if fraction_digits > 0 {
        text.push('.');
        let end = text.len() + fraction_digits;
        let mut power = -1;
        while text.len() < end {
            push_group(&mut text, groups.at(power));
            power -= 1;
        }
        text.truncate(end);
    }
    Ok(text)
}

fn push_group(text: &mut String, group: u16) {
    // Most groups of a long number are zero.
    match group {
        0 => text.push_str("0000"),
        _ => text.push_str(&format!("{group:04}")),
    }
}

fn special(name: &str, budget: &mut Budget) -> Result<String, ClientError> {
    budget.spend(name.len())?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::numeric;
    use crate::postgres::budget::Budget;

    fn read(words: &[u16]) -> Option<String> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut rest = bytes.as_slice();
        let text = numeric(&mut rest, &mut Budget::new(1 << 20)).ok()?;
        rest.is_empty().then_some(text)
    }

    #[test]
    fn digits_in_base_ten_thousand_are_text() {
        for (words, text) in [
            (&[0, 0, 0, 0][..], "0"),
            (&[0, 0, 0, 2], "0.00"),
            (&[1, 0, 0, 0, 100], "100"),
            (&[1, 1, 0, 0, 7], "70000"),
            (&[2, 0, 0x4000, 2, 1234, 5600], "-1234.56"),
            (&[4, 2, 0, 9, 1, 2345, 6789, 1234], "123456789.123400000"),
            (&[1, 0xffff, 0, 4, 1], "0.0001"),
            (&[1, 0xfffe, 0, 6, 1200], "0.000012"),
            (&[2, 0xffff, 0, 5, 9876, 5000], "0.98765"),
            (&[0, 0, 0xc000, 0], "NaN"),
            (&[0, 0, 0xd000, 0], "Infinity"),
            (&[0, 0, 0xf000, 0], "-Infinity"),
        ] {
            assert_eq!(read(words).as_deref(), Some(text), "{words:?}");
        }
    }

    #[test]
    fn malformed_numbers_are_errors() {
        for words in [&[][..], &[1, 0, 0], &[1, 0, 0, 0], &[1, 0, 0, 0, 10_000], &[0, 0, 1, 0]] {
            assert_eq!(read(words), None, "{words:?}");
        }
    }

    #[test]
    fn the_digits_of_a_short_encoding_count() {
        let encoded = [0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1];
        let longest =
            numeric(&mut encoded.as_slice(), &mut Budget::new(1 << 20)).expect("a number");
        assert_eq!((longest.len(), &longest[..3]), (4 * 32_767 + 1, "100"));
        assert!(numeric(&mut encoded.as_slice(), &mut Budget::new(100_000)).is_err());
    }
}
