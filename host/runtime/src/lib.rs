//! Runs components: the engine, the cache of compiled code, and a fresh instance for each request.

mod command;
pub mod compile;
pub mod engine;
pub mod guest_log;
pub mod handler;
mod key_value;
pub mod limits;
pub mod loaded;
mod mqtt;
mod neural_network;
pub mod outbound_http;
mod outbound_tcp;
mod postgres;
mod redis;
mod release_candidates;
mod sqlite;
pub mod state;
mod unsupported;
mod variables;

pub use engine::Runtime;
