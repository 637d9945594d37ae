//! Components at run time: an engine, compiled code on disk, and a fresh instance per request.

pub mod cache;
pub mod engine;
pub mod instance;
pub mod limits;
mod outbound;

pub use engine::Runtime;
pub use limits::Limits;
