//! Sizes and times in configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Deserializer};

/// A value in a notation for users.
pub trait Setting {
    /// The plain value.
    type Value;

    fn value(self) -> Self::Value;
}

impl Setting for Size {
    type Value = u64;
    fn value(self) -> u64 {
        self.0
    }
}

impl Setting for Time {
    type Value = Duration;
    fn value(self) -> Duration {
        self.0
    }
}

impl Setting for usize {
    type Value = Self;
    fn value(self) -> Self {
        self
    }
}

/// A size: `256MiB`, `10MB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let expected = || format!("{text:?} is not a size; write 4096, 512KiB, 10MB or 2GiB");
        let number: u64 = number.parse().with_context(expected)?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            _ => anyhow::bail!(expected()),
        };
        number.checked_mul(factor).map(Self).with_context(expected)
    }
}

/// A time: `10s`, `1m 30s`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        humantime::parse_duration(text)
            .map(Self)
            .with_context(|| format!("{text:?} is not a time; write 250ms, 10s or 1m 30s"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text_or_number(deserializer)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text_or_number(deserializer)
    }
}

/// Accepts the number `4096` as well as the text `"4096"`.
fn from_text_or_number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Number(number) => number.to_string(),
        Written::Text(text) => text,
    };
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::{Size, Time};
    use std::time::Duration;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("512KiB", 512 << 10),
            ("10MB", 10_000_000),
            ("2 GiB", 2 << 30),
            ("1Mi", 1 << 20),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "MiB", "10 parsecs", "-1", "99999999999GiB"] {
            assert!(
                text.parse::<Size>().unwrap_err().to_string().contains("is not a size"),
                "{text}"
            );
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!("1m 30s".parse::<Time>().unwrap().0, Duration::from_secs(90));
        assert!("soon".parse::<Time>().unwrap_err().to_string().contains("is not a time"));
    }
}
