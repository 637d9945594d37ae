//! Runs components: the engine, the cache of compiled code, and a fresh instance for each request.

mod cgi;
mod cgi_output;
pub mod checked;
pub mod code_cache;
mod command;
mod compose;
pub mod engine;
pub mod guest_log;
pub mod handler;
mod isolated;
mod key_value;
mod key_value_3;
mod key_value_batch;
mod key_value_database;
pub mod loaded;
mod memory_limit;
mod neural_network;
pub mod outbound_http;
mod outbound_tcp;
pub mod portable;
mod redis;
mod redis_client;
mod refused;
mod renamed;
mod sqlite;
mod sqlite_database;
mod sqlite_rules;
pub mod state;
pub mod usage;
mod variables;
pub mod wrap;

pub use engine::Runtime;
