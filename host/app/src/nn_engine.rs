//! The engine that runs the models which components use through `wasi:nn`.

use std::path::PathBuf;
use std::str::FromStr;

/// What runs the models that components use through `wasi:nn`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NnEngine {
    /// tract with this repository's kernels.
    #[default]
    Tract,
    /// ONNX Runtime in this shared library.
    OnnxRuntime(PathBuf),
}

impl FromStr for NnEngine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "tract" => Ok(Self::Tract),
            Some(("onnxruntime", path)) if !path.is_empty() => Ok(Self::OnnxRuntime(path.into())),
            _ => Err("write `tract` or `onnxruntime=PATH`".to_owned()),
        }
    }
}
