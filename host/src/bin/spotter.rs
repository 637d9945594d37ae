//! The `spotter` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "tract")]
    spotter_nn::set_built_in(Box::new(spotter_tract::Tract));
    spotter::cli::run()
}
