//! The values of a result: which type of the newest interface each of the server's types becomes, and how the server
//! encodes its values.

use bytes::Buf;

use super::bindings::v4::spin::postgres::postgres::{
    DbDataType, DbValue, Interval, RangeBoundKind,
};
use super::budget::Budget;
use super::date_time;
use super::error::{ClientError, malformed};
use super::numeric::numeric;

/// Reads a value from the beginning of these bytes.
type Decoder<T> = fn(&mut &[u8], &mut Budget) -> Result<T, ClientError>;
/// A bound, or `None` if the range has no end there.
type Bound<T> = Option<(T, RangeBoundKind)>;

/// The type with this number, unless the interface has no case for it. The server's catalogue has these numbers, which
/// never change.
pub(super) fn data_type(number: u32) -> Option<DbDataType> {
    Some(match number {
        16 => DbDataType::Boolean,
        17 => DbDataType::Binary,
        20 => DbDataType::Int64,
        21 => DbDataType::Int16,
        23 => DbDataType::Int32,
        // text, character and character varying
        25 | 1042 | 1043 => DbDataType::Str,
        700 => DbDataType::Floating32,
        701 => DbDataType::Floating64,
        1007 => DbDataType::ArrayInt32,
        1009 | 1014 | 1015 => DbDataType::ArrayStr,
        1016 => DbDataType::ArrayInt64,
        1082 => DbDataType::Date,
        1083 => DbDataType::Time,
        // without and with a time zone
        1114 | 1184 => DbDataType::Datetime,
        1186 => DbDataType::Interval,
        1231 => DbDataType::ArrayDecimal,
        1700 => DbDataType::Decimal,
        2950 => DbDataType::Uuid,
        3802 => DbDataType::Jsonb,
        3904 => DbDataType::RangeInt32,
        3906 => DbDataType::RangeDecimal,
        3926 => DbDataType::RangeInt64,
        _ => return None,
    })
}

/// Reads a value of this type.
pub(super) fn decode(
    data_type: &DbDataType,
    mut bytes: &[u8],
    budget: &mut Budget,
) -> Result<DbValue, ClientError> {
    let rest = &mut bytes;
    let value = match data_type {
        DbDataType::Boolean => DbValue::Boolean(rest.try_get_u8()? != 0),
        DbDataType::Int8 => DbValue::Int8(rest.try_get_i8()?),
        DbDataType::Int16 => DbValue::Int16(rest.try_get_i16()?),
        DbDataType::Int32 => DbValue::Int32(int32(rest, budget)?),
        DbDataType::Int64 => DbValue::Int64(int64(rest, budget)?),
        DbDataType::Floating32 => DbValue::Floating32(rest.try_get_f32()?),
        DbDataType::Floating64 => DbValue::Floating64(rest.try_get_f64()?),
        DbDataType::Str => DbValue::Str(string(rest, budget)?),
        DbDataType::Binary => DbValue::Binary(binary(rest, budget)?),
        DbDataType::Date => DbValue::Date(date_time::date(rest.try_get_i32()?)?),
        DbDataType::Time => DbValue::Time(date_time::time(rest.try_get_i64()?)?),
        DbDataType::Datetime => DbValue::Datetime(date_time::date_time(rest.try_get_i64()?)?),
        DbDataType::Timestamp => DbValue::Timestamp(int64(rest, budget)?),
        DbDataType::Uuid => DbValue::Uuid(uuid(rest, budget)?),
        DbDataType::Jsonb => DbValue::Jsonb(jsonb(rest, budget)?),
        DbDataType::Decimal => DbValue::Decimal(numeric(rest, budget)?),
        DbDataType::RangeInt32 => DbValue::RangeInt32(range(rest, budget, int32, 0)?),
        DbDataType::RangeInt64 => DbValue::RangeInt64(range(rest, budget, int64, 0)?),
        DbDataType::RangeDecimal => {
            DbValue::RangeDecimal(range(rest, budget, numeric, "0".to_owned())?)
        }
        DbDataType::ArrayInt32 => DbValue::ArrayInt32(array(rest, budget, int32)?),
        DbDataType::ArrayInt64 => DbValue::ArrayInt64(array(rest, budget, int64)?),
        DbDataType::ArrayDecimal => DbValue::ArrayDecimal(array(rest, budget, numeric)?),
        DbDataType::ArrayStr => DbValue::ArrayStr(array(rest, budget, string)?),
        DbDataType::Interval => DbValue::Interval(Interval {
            micros: rest.try_get_i64()?,
            days: rest.try_get_i32()?,
            months: rest.try_get_i32()?,
        }),
        DbDataType::Other(_) => DbValue::Unsupported(binary(rest, budget)?),
    };
    if rest.is_empty() { Ok(value) } else { Err(malformed()) }
}

fn int32(rest: &mut &[u8], _: &mut Budget) -> Result<i32, ClientError> {
    Ok(rest.try_get_i32()?)
}

fn int64(rest: &mut &[u8], _: &mut Budget) -> Result<i64, ClientError> {
    Ok(rest.try_get_i64()?)
}

fn binary(rest: &mut &[u8], budget: &mut Budget) -> Result<Vec<u8>, ClientError> {
    budget.spend(rest.len())?;
    Ok(std::mem::take(rest).to_vec())
}

fn string(rest: &mut &[u8], budget: &mut Budget) -> Result<String, ClientError> {
    String::from_utf8(binary(rest, budget)?).map_err(|_| {
        ClientError::ValueConversionFailed(
            "the server sent a text that is not UTF-8: do not change client_encoding".to_owned(),
        )
    })
}

fn uuid(rest: &mut &[u8], budget: &mut Budget) -> Result<String, ClientError> {
    let digits = format!("{:032x}", rest.try_get_u128()?);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    let text = parts.join("-");
    budget.spend(text.len())?;
    Ok(text)
}

fn jsonb(rest: &mut &[u8], budget: &mut Budget) -> Result<Vec<u8>, ClientError> {
    match rest.try_get_u8()? {
        1 => binary(rest, budget),
        version => Err(ClientError::ValueConversionFailed(format!(
            "the server sent jsonb of the unknown version {version}"
        ))),
    }
}

/// Reads a range. `zero` is any value of its type.
fn range<T: Clone>(
    rest: &mut &[u8],
    budget: &mut Budget,
    decode: Decoder<T>,
    zero: T,
) -> Result<(Bound<T>, Bound<T>), ClientError> {
    const EMPTY: u8 = 0x01;
    const HAS_LOWER: u8 = 0x02;
    const HAS_UPPER: u8 = 0x04;
    const NO_LOWER_END: u8 = 0x08;
    const NO_UPPER_END: u8 = 0x10;
    let flags = rest.try_get_u8()?;
    if flags & EMPTY != 0 {
        // Without bounds, it would contain everything.
        let bound = || Some((zero.clone(), RangeBoundKind::Exclusive));
        return Ok((bound(), bound()));
    }
    let mut bound = |no_end: u8, inclusive: u8| -> Result<Bound<T>, ClientError> {
        if flags & no_end != 0 {
            return Ok(None);
        }
        let kind = match flags & inclusive {
            0 => RangeBoundKind::Exclusive,
            _ => RangeBoundKind::Inclusive,
        };
        let value = nullable(rest, budget, decode)?.ok_or_else(malformed)?;
        Ok(Some((value, kind)))
    };
    Ok((bound(NO_LOWER_END, HAS_LOWER)?, bound(NO_UPPER_END, HAS_UPPER)?))
}

fn array<T>(
    rest: &mut &[u8],
    budget: &mut Budget,
    decode: Decoder<T>,
) -> Result<Vec<Option<T>>, ClientError> {
    let dimensions = rest.try_get_i32()?;
    let (_has_nulls, _element_type) = (rest.try_get_i32()?, rest.try_get_u32()?);
    match dimensions {
        0 => return Ok(Vec::new()),
        1 => {}
        _ => {
            return Err(ClientError::ValueConversionFailed(format!(
                "the array has {dimensions} dimensions: convert it to text"
            )));
        }
    }
    let (count, _first_index) = (rest.try_get_i32()?, rest.try_get_i32()?);
    let mut elements = Vec::new();
    for _ in 0..count {
        budget.spend(size_of::<Option<T>>())?;
        elements.push(nullable(rest, budget, decode)?);
    }
    Ok(elements)
}

/// Reads a value with its length before it, which is negative if the value is null.
fn nullable<T>(
    rest: &mut &[u8],
    budget: &mut Budget,
    decode: Decoder<T>,
) -> Result<Option<T>, ClientError> {
    let Ok(length) = usize::try_from(rest.try_get_i32()?) else { return Ok(None) };
    let (mut value, after) = rest.split_at_checked(length).ok_or_else(malformed)?;
    *rest = after;
    let decoded = decode(&mut value, budget)?;
    if value.is_empty() { Ok(Some(decoded)) } else { Err(malformed()) }
}

#[cfg(test)]
mod tests {
    use super::{DbDataType, DbValue, Interval, RangeBoundKind, decode};
    use crate::postgres::budget::Budget;

    fn read(data_type: &DbDataType, hexadecimal: &str) -> Option<DbValue> {
        let digits: Vec<char> = hexadecimal.chars().filter(|digit| *digit != ' ').collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).expect("hex");
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        decode(data_type, &bytes, &mut Budget::new(1000)).ok()
    }

    #[test]
    fn each_type_has_its_value() {
        let (inclusive, exclusive) = (RangeBoundKind::Inclusive, RangeBoundKind::Exclusive);
        let text = str::to_owned;
        for (data_type, bytes, value) in [
            (DbDataType::Boolean, "01", DbValue::Boolean(true)),
            (DbDataType::Int16, "fffe", DbValue::Int16(-2)),
            (DbDataType::Int32, "00000007", DbValue::Int32(7)),
            (DbDataType::Int64, "ffffffffffffffff", DbValue::Int64(-1)),
            (DbDataType::Floating32, "40490fdb", DbValue::Floating32(std::f32::consts::PI)),
            (DbDataType::Floating64, "3ff8000000000000", DbValue::Floating64(1.5)),
            (DbDataType::Str, "68c3a9", DbValue::Str(text("hé"))),
            (DbDataType::Str, "", DbValue::Str(String::new())),
            (DbDataType::Binary, "ff00", DbValue::Binary(vec![255, 0])),
            (DbDataType::Date, "ffffffff", DbValue::Date((1999, 12, 31))),
            (DbDataType::Time, "00000000000f4240", DbValue::Time((0, 0, 1, 0))),
            (
                DbDataType::Datetime,
                "0000000000000001",
                DbValue::Datetime((2000, 1, 1, 0, 0, 0, 1000)),
            ),
            (DbDataType::Jsonb, "01 7b7d", DbValue::Jsonb(b"{}".to_vec())),
            (DbDataType::Decimal, "0001 0000 4000 0001 0005", DbValue::Decimal(text("-5.0"))),
            (
                DbDataType::Uuid,
                "12345678123412341234123456789abc",
                DbValue::Uuid(text("12345678-1234-1234-1234-123456789abc")),
            ),
            (
                DbDataType::Interval,
                "0000000000000001 00000002 fffffffd",
                DbValue::Interval(Interval { micros: 1, days: 2, months: -3 }),
            ),
            (
                DbDataType::RangeInt32,
                "02 00000004 00000001 00000004 00000009",
                DbValue::RangeInt32((Some((1, inclusive)), Some((9, exclusive)))),
            ),
            (
                DbDataType::RangeInt64,
                "12 00000008 0000000000000001",
                DbValue::RangeInt64((Some((1, inclusive)), None)),
            ),
            (DbDataType::RangeInt64, "18", DbValue::RangeInt64((None, None))),
            (
                DbDataType::RangeDecimal,
                "01",
                DbValue::RangeDecimal((Some((text("0"), exclusive)), Some((text("0"), exclusive)))),
            ),
            (DbDataType::ArrayInt32, "00000000 00000000 00000017", DbValue::ArrayInt32(vec![])),
            (
                DbDataType::ArrayStr,
                "00000001 00000001 00000019 00000002 00000001 00000001 61 ffffffff",
                DbValue::ArrayStr(vec![Some(text("a")), None]),
            ),
            (DbDataType::Other(text("xml")), "3c", DbValue::Unsupported(vec![0x3c])),
        ] {
            assert_eq!(read(&data_type, bytes), Some(value), "{data_type:?} {bytes}");
        }
    }

    #[test]
    fn malformed_and_large_values_are_errors() {
        for (data_type, bytes) in [
            (DbDataType::Boolean, ""),
            (DbDataType::Int32, "000000"),
            (DbDataType::Int32, "0000000000"),
            (DbDataType::Str, "ff"),
            (DbDataType::Date, "7fffffff"),
            (DbDataType::Uuid, "00"),
            (DbDataType::Jsonb, "02"),
            (DbDataType::RangeInt32, "02 00000004 00000001"),
            (DbDataType::RangeInt32, "02 ffffffff ffffffff"),
            (DbDataType::RangeInt32, "02 7fffffff 00000001"),
            (DbDataType::ArrayInt32, "00000002 00000000 00000017 00000001 00000001"),
            (DbDataType::ArrayInt32, "00000001 00000000 00000017 7fffffff 00000001"),
            (DbDataType::ArrayStr, "00000001 00000000 00000019 00000001 00000001 00000001"),
            (DbDataType::Str, &"61".repeat(1001)),
        ] {
            assert_eq!(read(&data_type, bytes), None, "{data_type:?} {bytes}");
        }
    }
}
