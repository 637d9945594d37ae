//! The engine that runs the models which components use through `wasi:nn`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

/// What runs the models that components use through `wasi:nn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NnEngine {
    /// tract with this repository's kernels. A computation that begins while no other one runs has so many threads.
    Tract { threads: NonZeroU16 },
    /// ONNX Runtime in this shared library.
    OnnxRuntime(PathBuf),
}

impl Default for NnEngine {
    fn default() -> Self {
        Self::Tract { threads: NonZeroU16::MIN }
    }
}

impl FromStr for NnEngine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "tract" => Ok(Self::default()),
            Some(("onnxruntime", path)) if !path.is_empty() => Ok(Self::OnnxRuntime(path.into())),
            _ => Err("write `tract` or `onnxruntime=PATH`".to_owned()),
        }
    }
}
