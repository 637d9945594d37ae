//! The `spotter` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "tract")]
    spotter_nn::set_built_in(Box::new(spotter_tract::Tract));
    #[cfg(feature = "onnxruntime")]
    spotter_nn::set_onnx_runtime(spotter_onnxruntime::load);
    spotter::cli::run()
}
