//! Runs components: the engine, the cache of compiled code, and a fresh instance for each request.

pub mod cache;
pub mod engine;
pub mod guest_log;
pub mod handler;
pub mod instance;
mod key_value;
pub mod outbound;
mod variables;

pub use engine::Runtime;
