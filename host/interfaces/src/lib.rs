//! The interfaces that components may import beyond WASI: key-value stores, SQL databases, Redis, MQTT and variables.

pub mod key_value;
mod limited_stream;
pub mod mqtt;
pub mod outbound_tcp;
pub mod postgres;
pub mod redis;
pub mod sqlite;
pub mod unsupported;
pub mod variables;
mod waiting_bytes;
