//! Runs components: the engine, the cache of compiled code, and a fresh instance for each request.

pub mod checked;
pub mod compiled;
mod database;
pub mod engine;
pub mod guest_log;
pub mod handler;
mod key_value;
pub mod loaded;
mod neural_network;
pub mod outbound;
pub mod state;
pub mod usage;
mod variables;
pub mod wrap;

pub use engine::Runtime;
