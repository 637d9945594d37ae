//! Spotter's runtime: an application's manifest in, HTTP served by WebAssembly components out.

pub mod app;
pub mod build;
pub mod cli;
pub mod node;
pub mod progress;
pub mod registry;
pub mod runtime;
pub mod server;
#[cfg(feature = "shim")]
pub mod shim;
mod suggest;
