//! Runs components: the engine, the cache of compiled code, and a fresh instance for each request.

mod command;
pub mod compile;
pub mod engine;
mod engine_config;
pub mod guest_log;
pub mod handler;
pub mod limits;
pub mod loaded;
mod neural_network;
pub mod outbound_http;
mod release_candidates;
pub mod state;

pub use engine::Runtime;
