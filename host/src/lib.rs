//! The `spotter` command: builds and bakes applications of WebAssembly components, serves them, and ships them.

pub mod attestation;
pub mod bake;
pub mod build;
pub mod cli;
pub mod detector;
pub mod onnx;
pub mod toolchain;
