//! Schemas of the bodies that are parsed by hand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api::json::{Limited, OptionText};
use crate::api::open_inference::data::Data;
use crate::api::roboflow::request::{Image, Images};
use crate::options::MAX_PICTURES;

impl JsonSchema for OptionText {
    fn schema_name() -> Cow<'static, str> {
        "OptionText".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {"type": ["string", "number", "boolean"]},
                {"type": "array", "items": {"type": "string"}, "maxItems": 256},
            ]
        })
    }
}

impl<T: JsonSchema, const MAX: usize> JsonSchema for Limited<T, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}To{MAX}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": generator.subschema_for::<T>(),
            "maxItems": MAX,
        })
    }
}

impl JsonSchema for Images {
    fn schema_name() -> Cow<'static, str> {
        "Images".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                generator.subschema_for::<Image>(),
                {"type": "array", "items": generator.subschema_for::<Image>(), "maxItems": MAX_PICTURES},
            ]
        })
    }
}

impl JsonSchema for Data {
    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Base64 for BYTES, 0 to 255 for UINT8. The list may be nested.",
            "type": "array",
            "items": {"type": ["string", "integer", "array"]},
        })
    }
}
