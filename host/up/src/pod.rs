//! `spotter up` in a container: the same flags, with defaults for a pod.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;

use spotter_server::connection::tls::choose_cryptography;
use spotter_server::signals::Signals;

use crate::block_on;
use crate::pod_configuration::PodConfiguration;
use crate::serve::{CompiledComponent, CompiledComponents};
use spotter_progress::print_message;

/// Serves an application until a signal to stop, and returns the exit status.
pub fn serve(
    manifest: &Path,
    configuration: &PodConfiguration,
    compiled: &CompiledComponents,
) -> i32 {
    choose_cryptography();
    let served = configuration.flags(manifest).and_then(|flags| {
        // A signal that arrives while the application is loaded stops the server as soon as it serves.
        let mut signals = block_on(async { Signals::new() })?;
        match block_on(wait_for_code(compiled, &mut signals))? {
            WaitOutcome::Compiled => flags.run(compiled, Some(signals), |_| Ok(())),
            WaitOutcome::Stopped => Ok(()),
        }
    });
    match served {
        Ok(()) => 0,
        Err(error) => {
            print_message(&format!("error: {error:#}"));
            1
        }
    }
}

/// What ended the wait for compiled code.
enum WaitOutcome {
    /// All code is compiled.
    Compiled,
    /// A signal to stop arrived.
    Stopped,
}

/// Waits until the shim has compiled all components.
///
/// # Errors
/// If one cannot be compiled.
async fn wait_for_code(
    compiled: &CompiledComponents,
    signals: &mut Signals,
) -> anyhow::Result<WaitOutcome> {
    const CODE_POLL_INTERVAL: Duration = Duration::from_millis(50);
    if compiled.values().any(|component| !component.code.exists()) {
        print_message("Waiting for the compiler");
    }
    for (id, CompiledComponent { code, .. }) in compiled {
        while !code.exists() {
            if let Ok(failure) = std::fs::read_to_string(failure_path(code)) {
                bail!("cannot compile `{id}`: {failure}");
            }
            tokio::select! {
                () = tokio::time::sleep(CODE_POLL_INTERVAL) => {}
                () = signals.stop() => return Ok(WaitOutcome::Stopped),
            }
        }
    }
    Ok(WaitOutcome::Compiled)
}

/// The file in which the shim records why it cannot compile the code for this path.
#[must_use]
pub fn failure_path(code: &Path) -> PathBuf {
    code.with_extension("error")
}
