//! Converts types between the newest interface and the older ones, and the client's errors to those of each interface.

use super::bindings::v2::fermyon::spin::rdbms_types as v2;
use super::bindings::v3::spin::postgres::postgres as v3;
use super::bindings::v4::spin::postgres::postgres as v4;
use super::error::ClientError;

impl From<ClientError> for v4::Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::ConnectionFailed(text) => Self::ConnectionFailed(text),
            ClientError::BadParameter(text) => Self::BadParameter(text),
            ClientError::Refused(error) => Self::QueryFailed(v4::QueryError::DbError(*error)),
            ClientError::QueryFailed(text) => Self::QueryFailed(v4::QueryError::Text(text)),
            ClientError::ValueConversionFailed(text) => Self::ValueConversionFailed(text),
        }
    }
}

/// What the older interfaces have in common.
macro_rules! conversions {
    ($interface:ident) => {
        impl From<ClientError> for $interface::Error {
            fn from(error: ClientError) -> Self {
                match error {
                    ClientError::ConnectionFailed(text) => Self::ConnectionFailed(text),
                    ClientError::BadParameter(text) => Self::BadParameter(text),
                    ClientError::Refused(error) => Self::QueryFailed(error.as_text),
                    ClientError::QueryFailed(text) => Self::QueryFailed(text),
                    ClientError::ValueConversionFailed(text) => Self::ValueConversionFailed(text),
                }
            }
        }

        impl From<v4::RowSet> for $interface::RowSet {
            fn from(set: v4::RowSet) -> Self {
                let column = |v4::Column { name, data_type }| $interface::Column {
                    name,
                    data_type: data_type.into(),
                };
                let row = |row: v4::Row| row.into_iter().map(Into::into).collect();
                Self {
                    columns: set.columns.into_iter().map(column).collect(),
                    rows: set.rows.into_iter().map(row).collect(),
                }
            }
        }
    };
}

conversions!(v2);
conversions!(v3);

impl From<v4::DbDataType> for v2::DbDataType {
    fn from(data_type: v4::DbDataType) -> Self {
        match data_type {
            v4::DbDataType::Boolean => Self::Boolean,
            v4::DbDataType::Int8 => Self::Int8,
            v4::DbDataType::Int16 => Self::Int16,
            v4::DbDataType::Int32 => Self::Int32,
            v4::DbDataType::Int64 => Self::Int64,
            v4::DbDataType::Floating32 => Self::Floating32,
            v4::DbDataType::Floating64 => Self::Floating64,
            v4::DbDataType::Str => Self::Str,
            v4::DbDataType::Binary => Self::Binary,
            _ => Self::Other,
        }
    }
}

impl From<v4::DbValue> for v2::DbValue {
    fn from(value: v4::DbValue) -> Self {
        match value {
            v4::DbValue::Boolean(value) => Self::Boolean(value),
            v4::DbValue::Int8(number) => Self::Int8(number),
            v4::DbValue::Int16(number) => Self::Int16(number),
            v4::DbValue::Int32(number) => Self::Int32(number),
            v4::DbValue::Int64(number) => Self::Int64(number),
            v4::DbValue::Floating32(number) => Self::Floating32(number),
            v4::DbValue::Floating64(number) => Self::Floating64(number),
            v4::DbValue::Str(text) => Self::Str(text),
            v4::DbValue::Binary(bytes) => Self::Binary(bytes),
            v4::DbValue::DbNull => Self::DbNull,
            _ => Self::Unsupported,
        }
    }
}

impl TryFrom<v2::ParameterValue> for v4::ParameterValue {
    type Error = ClientError;

    fn try_from(value: v2::ParameterValue) -> Result<Self, ClientError> {
        Ok(match value {
            v2::ParameterValue::Boolean(value) => Self::Boolean(value),
            v2::ParameterValue::Int8(number) => Self::Int8(number),
            v2::ParameterValue::Int16(number) => Self::Int16(number),
            v2::ParameterValue::Int32(number) => Self::Int32(number),
            v2::ParameterValue::Int64(number) => Self::Int64(number),
            v2::ParameterValue::Floating32(number) => Self::Floating32(number),
            v2::ParameterValue::Floating64(number) => Self::Floating64(number),
            v2::ParameterValue::Str(text) => Self::Str(text),
            v2::ParameterValue::Binary(bytes) => Self::Binary(bytes),
            v2::ParameterValue::DbNull => Self::DbNull,
            v2::ParameterValue::Uint8(_)
            | v2::ParameterValue::Uint16(_)
            | v2::ParameterValue::Uint32(_)
            | v2::ParameterValue::Uint64(_) => {
                return Err(ClientError::ValueConversionFailed(
                    "PostgreSQL has no unsigned integers: pass a signed one".to_owned(),
                ));
            }
        })
    }
}

impl From<v4::DbDataType> for v3::DbDataType {
    fn from(data_type: v4::DbDataType) -> Self {
        match data_type {
            v4::DbDataType::Boolean => Self::Boolean,
            v4::DbDataType::Int8 => Self::Int8,
            v4::DbDataType::Int16 => Self::Int16,
            v4::DbDataType::Int32 => Self::Int32,
            v4::DbDataType::Int64 => Self::Int64,
            v4::DbDataType::Floating32 => Self::Floating32,
            v4::DbDataType::Floating64 => Self::Floating64,
            v4::DbDataType::Str => Self::Str,
            v4::DbDataType::Binary => Self::Binary,
            v4::DbDataType::Date => Self::Date,
            v4::DbDataType::Time => Self::Time,
            v4::DbDataType::Datetime => Self::Datetime,
            v4::DbDataType::Timestamp => Self::Timestamp,
            _ => Self::Other,
        }
    }
}

impl From<v4::DbValue> for v3::DbValue {
    fn from(value: v4::DbValue) -> Self {
        match value {
            v4::DbValue::Boolean(value) => Self::Boolean(value),
            v4::DbValue::Int8(number) => Self::Int8(number),
            v4::DbValue::Int16(number) => Self::Int16(number),
            v4::DbValue::Int32(number) => Self::Int32(number),
            v4::DbValue::Int64(number) => Self::Int64(number),
            v4::DbValue::Floating32(number) => Self::Floating32(number),
            v4::DbValue::Floating64(number) => Self::Floating64(number),
            v4::DbValue::Str(text) => Self::Str(text),
            v4::DbValue::Binary(bytes) => Self::Binary(bytes),
            v4::DbValue::Date(date) => Self::Date(date),
            v4::DbValue::Time(time) => Self::Time(time),
            v4::DbValue::Datetime(date_time) => Self::Datetime(date_time),
            v4::DbValue::Timestamp(seconds) => Self::Timestamp(seconds),
            v4::DbValue::DbNull => Self::DbNull,
            _ => Self::Unsupported,
        }
    }
}

impl From<v3::ParameterValue> for v4::ParameterValue {
    fn from(value: v3::ParameterValue) -> Self {
        match value {
            v3::ParameterValue::Boolean(value) => Self::Boolean(value),
            v3::ParameterValue::Int8(number) => Self::Int8(number),
            v3::ParameterValue::Int16(number) => Self::Int16(number),
            v3::ParameterValue::Int32(number) => Self::Int32(number),
            v3::ParameterValue::Int64(number) => Self::Int64(number),
            v3::ParameterValue::Floating32(number) => Self::Floating32(number),
            v3::ParameterValue::Floating64(number) => Self::Floating64(number),
            v3::ParameterValue::Str(text) => Self::Str(text),
            v3::ParameterValue::Binary(bytes) => Self::Binary(bytes),
            v3::ParameterValue::Date(date) => Self::Date(date),
            v3::ParameterValue::Time(time) => Self::Time(time),
            v3::ParameterValue::Datetime(date_time) => Self::Datetime(date_time),
            v3::ParameterValue::Timestamp(seconds) => Self::Timestamp(seconds),
            v3::ParameterValue::DbNull => Self::DbNull,
        }
    }
}
