//! The `spotter` command.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "tract")]
    spotter_nn::set_built_in(Box::new(spotter_tract::Tract));
    #[cfg(feature = "onnxruntime")]
    spotter_nn::set_onnx_runtime(spotter_onnxruntime::load);
    spotter::cli::run()
}
