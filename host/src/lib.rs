//! Spotter's runtime: builds applications of WebAssembly components and serves them over HTTP.

pub mod app;
pub mod bake;
pub mod build;
pub mod cli;
pub mod config;
pub mod detector;
pub mod nn;
pub mod node;
pub mod onnx;
pub mod progress;
pub mod registry;
pub mod runtime;
pub mod server;
#[cfg(feature = "shim")]
pub mod shim;
mod suggest;
pub mod toolchain;
