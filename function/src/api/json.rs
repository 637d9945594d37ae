//! The JSON body of `POST /detect`, and values that all APIs' bodies share. They are parsed as a stream: unexpected
//! values are rejected as soon as they begin, so that a body never takes much more memory than its own size.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::PictureCount;
use crate::options::MAX_PICTURES;

/// The maximum number of entries in a list that is an option's value.
const MAX_LIST_ENTRIES: usize = 256;

/// The maximum number of options in a body.
const MAX_OPTIONS: usize = 64;

/// A parsed body: pictures, still in base64, and options as text, as in a query.
#[derive(Debug)]
pub(super) struct JsonBody {
    /// At most [`MAX_PICTURES`].
    pub(super) images: Vec<String>,
    /// The number of pictures in the body.
    pub(super) total: usize,
    pub(super) count: PictureCount,
    pub(super) options: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for JsonBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BodyVisitor)
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = JsonBody;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with an `image`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonBody, A::Error> {
        let mut image: Option<Images> = None;
        let mut options = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "image" {
                image = Some(map.next_value()?);
            } else if options.len() == MAX_OPTIONS {
                return Err(A::Error::custom(format_args!(
                    "there are more than {MAX_OPTIONS} options"
                )));
            } else {
                options.push((name, map.next_value::<OptionText>()?.0));
            }
        }
        let Images { images, total, count } =
            image.ok_or_else(|| A::Error::custom("there is no `image`"))?;
        Ok(JsonBody { images, total, count, options })
    }
}

/// One picture, or a list of them.
struct Images {
    images: Vec<String>,
    total: usize,
    count: PictureCount,
}

impl<'de> Deserialize<'de> for Images {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImagesVisitor)
    }
}

struct ImagesVisitor;

impl<'de> Visitor<'de> for ImagesVisitor {
    type Value = Images;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`image` to be base64, or a list of 1 to {MAX_PICTURES}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Images, E> {
        Ok(Images { images: vec![text.to_owned()], total: 1, count: PictureCount::One })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Images, A::Error> {
        let mut images = Vec::new();
        while images.len() < MAX_PICTURES
            && let Some(text) = list.next_element::<String>()?
        {
            images.push(text);
        }
        let mut total = images.len();
        // The rest is only counted, for the error.
        while total >= MAX_PICTURES && list.next_element::<IgnoredAny>()?.is_some() {
            total += 1;
        }
        if images.is_empty() {
            return Err(A::Error::invalid_length(0, &self));
        }
        Ok(Images { images, total, count: PictureCount::Many })
    }
}

/// An option's value as text. The entries of a list are joined with commas.
pub(super) struct OptionText(pub(super) String);

impl<'de> Deserialize<'de> for OptionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OptionVisitor)
    }
}

struct OptionVisitor;

impl<'de> Visitor<'de> for OptionVisitor {
    type Value = OptionText;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "an option to be a string, a number, true, false, or a list of up to {MAX_LIST_ENTRIES} strings"
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OptionText, E> {
        Ok(OptionText(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<OptionText, E> {
        Ok(OptionText(value.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<OptionText, E> {
        Ok(OptionText(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<OptionText, E> {
        Ok(OptionText(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<OptionText, E> {
        Ok(OptionText(number.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OptionText, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
            if texts.len() > MAX_LIST_ENTRIES {
                return Err(A::Error::invalid_length(texts.len(), &self));
            }
        }
        Ok(OptionText(texts.join(",")))
    }
}

/// A list of at most `MAX` values.
#[derive(Debug)]
pub(super) struct Limited<T, const MAX: usize>(pub(super) Vec<T>);

impl<T, const MAX: usize> Default for Limited<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Limited<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(LimitedVisitor(PhantomData))
    }
}

struct LimitedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for LimitedVisitor<T, MAX> {
    type Value = Limited<T, MAX>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Limited<T, MAX>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
            if values.len() > MAX {
                return Err(A::Error::invalid_length(values.len(), &self));
            }
        }
        Ok(Limited(values))
    }
}
