//! The parameters of a statement, as the server reads them.

use std::fmt::{Debug, Display};

use super::bindings::v4::spin::postgres::postgres::{Interval, ParameterValue, RangeBoundKind};
use super::date_time::{date_text, date_time_text, time_text, timestamp_text};
use super::error::ClientError;

/// The server finds out the type from the statement.
const UNKNOWN_TYPE: u32 = 0;
const BYTEA_TYPE: u32 = 17;
const INTERVAL_TYPE: u32 = 1186;
const TEXT_FORMAT: i16 = 0;
const BINARY_FORMAT: i16 = 1;

/// A parameter's type, its format and its value; a null has none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) type_number: u32,
    pub(super) format: i16,
    pub(super) value: Option<Vec<u8>>,
}

impl Parameter {
    /// A value as text, from which the server can make a value of any type.
    pub(super) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self { type_number: UNKNOWN_TYPE, format: TEXT_FORMAT, value: Some(text.into()) }
    }

    fn binary(type_number: u32, value: Vec<u8>) -> Self {
        Self { type_number, format: BINARY_FORMAT, value: Some(value) }
    }

    /// What it takes in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.value.as_ref().map_or(0, Vec::len)
    }
}

impl TryFrom<ParameterValue> for Parameter {
    type Error = ClientError;

    fn try_from(value: ParameterValue) -> Result<Self, ClientError> {
        Ok(Self::text(match value {
            ParameterValue::Boolean(value) => value.to_string(),
            ParameterValue::Int8(number) => number.to_string(),
            ParameterValue::Int16(number) => number.to_string(),
            ParameterValue::Int32(number) => number.to_string(),
            ParameterValue::Int64(number) => number.to_string(),
            ParameterValue::Floating32(number) => float_text(number),
            ParameterValue::Floating64(number) => float_text(number),
            ParameterValue::Date(date) => date_text(date)?,
            ParameterValue::Time(time) => time_text(time)?,
            ParameterValue::Datetime(date_time) => date_time_text(date_time)?,
            ParameterValue::Timestamp(seconds) => timestamp_text(seconds)?,
            ParameterValue::Str(text)
            | ParameterValue::Uuid(text)
            | ParameterValue::Decimal(text) => text,
            ParameterValue::Jsonb(text) => return Ok(Self::text(text)),
            ParameterValue::RangeInt32((lower, upper)) => range_text(lower, upper),
            ParameterValue::RangeInt64((lower, upper)) => range_text(lower, upper),
            ParameterValue::RangeDecimal((lower, upper)) => range_text(lower, upper),
            ParameterValue::ArrayInt32(elements) => array_text(&elements),
            ParameterValue::ArrayInt64(elements) => array_text(&elements),
            ParameterValue::ArrayDecimal(elements) | ParameterValue::ArrayStr(elements) => {
                array_text(&elements)
            }
            ParameterValue::Binary(bytes) => return Ok(Self::binary(BYTEA_TYPE, bytes)),
            ParameterValue::Interval(interval) => {
                return Ok(Self::binary(INTERVAL_TYPE, interval_bytes(interval)));
            }
            ParameterValue::DbNull => {
                return Ok(Self { type_number: UNKNOWN_TYPE, format: TEXT_FORMAT, value: None });
            }
        }))
    }
}

/// The shortest text from which the server reads the same number.
fn float_text(number: impl Debug) -> String {
    format!("{number:?}").replace("inf", "Infinity")
}

fn range_text<T: Display>(
    lower: Option<(T, RangeBoundKind)>,
    upper: Option<(T, RangeBoundKind)>,
) -> String {
    let (start, lower) = match lower {
        Some((value, RangeBoundKind::Inclusive)) => ('[', quoted(&value)),
        Some((value, RangeBoundKind::Exclusive)) => ('(', quoted(&value)),
        None => ('(', String::new()),
    };
    let (upper, end) = match upper {
        Some((value, RangeBoundKind::Inclusive)) => (quoted(&value), ']'),
        Some((value, RangeBoundKind::Exclusive)) => (quoted(&value), ')'),
        None => (String::new(), ')'),
    };
    format!("{start}{lower},{upper}{end}")
}

fn array_text<T: Display>(elements: &[Option<T>]) -> String {
    let written = |element: &Option<T>| element.as_ref().map_or("NULL".to_owned(), quoted);
    let elements: Vec<String> = elements.iter().map(written).collect();
    format!("{{{}}}", elements.join(","))
}

/// A value that the server takes as one, whatever characters it has.
fn quoted<T: Display>(value: &T) -> String {
    let escaped = value.to_string().replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{escaped}\"")
}

fn interval_bytes(Interval { micros, days, months }: Interval) -> Vec<u8> {
    [&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::{BINARY_FORMAT, BYTEA_TYPE, INTERVAL_TYPE, Parameter, ParameterValue};
    use crate::postgres::bindings::v4::spin::postgres::postgres::{Interval, RangeBoundKind};

    #[test]
    fn most_values_are_text() {
        let (inclusive, exclusive) = (RangeBoundKind::Inclusive, RangeBoundKind::Exclusive);
        let text = str::to_owned;
        for (value, expected) in [
            (ParameterValue::Boolean(true), "true"),
            (ParameterValue::Int8(-1), "-1"),
            (ParameterValue::Int64(i64::MIN), "-9223372036854775808"),
            (ParameterValue::Floating32(19.2), "19.2"),
            (ParameterValue::Floating64(1e300), "1e300"),
            (ParameterValue::Floating64(f64::NEG_INFINITY), "-Infinity"),
            (ParameterValue::Floating64(f64::NAN), "NaN"),
            (ParameterValue::Str(text("it's")), "it's"),
            (ParameterValue::Jsonb(b"{}".to_vec()), "{}"),
            (ParameterValue::Decimal(text("1.50")), "1.50"),
            (ParameterValue::Date((2525, 12, 25)), "2525-12-25"),
            (
                ParameterValue::RangeInt32((Some((1, inclusive)), Some((5, exclusive)))),
                "[\"1\",\"5\")",
            ),
            (ParameterValue::RangeInt64((None, Some((5, inclusive)))), "(,\"5\"]"),
            (ParameterValue::RangeDecimal((Some((text("1,2"), exclusive)), None)), "(\"1,2\",)"),
            (ParameterValue::ArrayInt32(vec![Some(1), None]), "{\"1\",NULL}"),
            (ParameterValue::ArrayStr(vec![]), "{}"),
            (
                ParameterValue::ArrayStr(vec![Some(text("a\"b\\c,}")), Some(text("NULL"))]),
                r#"{"a\"b\\c,}","NULL"}"#,
            ),
        ] {
            let parameter = Parameter::try_from(value).expect("a parameter");
            assert_eq!(parameter, Parameter::text(expected));
        }
    }

    #[test]
    fn bytes_and_intervals_are_binary_and_nulls_nothing() {
        let bytes = Parameter::try_from(ParameterValue::Binary(vec![0, 1])).expect("a parameter");
        assert_eq!((bytes.type_number, bytes.format), (BYTEA_TYPE, BINARY_FORMAT));
        assert_eq!(bytes.value, Some(vec![0, 1]));
        let interval = Interval { micros: 1, days: 2, months: 3 };
        let interval =
            Parameter::try_from(ParameterValue::Interval(interval)).expect("a parameter");
        assert_eq!((interval.type_number, interval.format), (INTERVAL_TYPE, BINARY_FORMAT));
        let expected = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        assert_eq!(interval.value, Some(expected));
        assert_eq!(Parameter::try_from(ParameterValue::DbNull).expect("a parameter").value, None);
    }

    #[test]
    fn dates_and_times_that_do_not_exist_are_refused() {
        for value in [
            ParameterValue::Date((2000, 0, 1)),
            ParameterValue::Time((0, 60, 0, 0)),
            ParameterValue::Datetime((2000, 1, 32, 0, 0, 0, 0)),
            ParameterValue::Timestamp(i64::MAX),
        ] {
            assert!(Parameter::try_from(value).is_err());
        }
    }
}
