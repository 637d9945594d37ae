//! Spotter's runtime: an application's manifest in, HTTP served by WebAssembly components out.

pub mod app;
pub mod bake;
pub mod build;
pub mod cli;
pub mod detector;
pub mod node;
pub mod progress;
pub mod registry;
pub mod runtime;
pub mod server;
#[cfg(feature = "shim")]
pub mod shim;
mod suggest;
pub mod toolchain;
