//! Runs components: the engine, the cache of compiled code, and a fresh instance for each request.

mod cgi;
mod cgi_output;
pub mod code_cache;
mod command;
mod compose;
pub mod cpu_limit;
mod dependency_isolation;
pub mod engine;
mod engine_config;
pub mod guest_log;
pub mod handler;
mod key_value;
mod key_value_3;
mod key_value_batch;
mod key_value_database;
pub mod loaded;
mod memory_limit;
mod neural_network;
pub mod outbound_http;
mod outbound_tcp;
pub mod precompile;
pub mod prepare;
mod redis;
mod redis_client;
mod rename_interfaces;
mod sqlite;
mod sqlite_database;
mod sqlite_rules;
pub mod state;
mod unsupported;
pub mod usage;
mod variables;
pub mod wrap;

pub use engine::Runtime;
