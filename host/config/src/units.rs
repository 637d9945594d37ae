//! Sizes and times in configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Deserializer};

/// A value as users write it in configuration.
pub trait ConfigValue {
    /// The plain value.
    type Value;

    fn value(self) -> Self::Value;
}

impl ConfigValue for ByteSize {
    type Value = u64;
    fn value(self) -> u64 {
        self.0
    }
}

impl ConfigValue for HumanDuration {
    type Value = Duration;
    fn value(self) -> Duration {
        self.0
    }
}

impl ConfigValue for usize {
    type Value = Self;
    fn value(self) -> Self {
        self
    }
}

/// A size: `256MiB`, `10MB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
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
pub struct HumanDuration(pub Duration);

impl FromStr for HumanDuration {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        humantime::parse_duration(text)
            .map(Self)
            .with_context(|| format!("{text:?} is not a time; write 250ms, 10s or 1m 30s"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text_or_number(deserializer)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
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
    #[serde(
        untagged,
        expecting = "it must be a whole number, or a text such as \"256MiB\" or \"10s\""
    )]
    enum RawValue {
        Number(u64),
        Text(String),
    }
    let text = match RawValue::deserialize(deserializer)? {
        RawValue::Number(number) => number.to_string(),
        RawValue::Text(text) => text,
    };
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::{ByteSize, HumanDuration};
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
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(bytes), "{text}");
        }
        for text in ["", "MiB", "10 parsecs", "-1", "99999999999GiB"] {
            assert!(
                text.parse::<ByteSize>().unwrap_err().to_string().contains("is not a size"),
                "{text}"
            );
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!("1m 30s".parse::<HumanDuration>().unwrap().0, Duration::from_secs(90));
        assert!("soon".parse::<HumanDuration>().unwrap_err().to_string().contains("is not a time"));
    }
}
