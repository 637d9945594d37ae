//! A tensor's elements in JSON, parsed as a stream.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Unexpected, Visitor};

use crate::options::MAX_PICTURES;

/// A tensor's elements in JSON: all strings or all bytes, in a list that may be nested.
pub(in crate::api) enum Data {
    Texts(Vec<String>),
    Numbers(Vec<u8>),
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut elements = Elements::default();
        (&mut elements).deserialize(deserializer)?;
        Ok(if elements.texts.is_empty() {
            Self::Numbers(elements.numbers)
        } else {
            Self::Texts(elements.texts)
        })
    }
}

/// Collects elements from nested lists.
#[derive(Default)]
struct Elements {
    texts: Vec<String>,
    numbers: Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for &mut Elements {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Elements {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "up to {MAX_PICTURES} base64 strings, or numbers from 0 to 255")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.texts.len() == MAX_PICTURES || !self.numbers.is_empty() {
            return Err(E::invalid_value(Unexpected::Other("a string"), &self));
        }
        self.texts.push(text.to_owned());
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        match u8::try_from(number) {
            Ok(number) if self.texts.is_empty() => self.numbers.push(number),
            _ => return Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
        Ok(())
    }
}
