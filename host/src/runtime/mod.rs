//! Components at run time: an engine, compiled code on disk, and a fresh instance per request.

pub mod cache;
pub mod config_file;
pub mod engine;
pub mod guest_log;
pub mod handler;
pub mod instance;
mod key_value;
pub mod limits;
pub mod outbound;
pub mod units;
mod variables;

pub use engine::Runtime;
pub use limits::Limits;
