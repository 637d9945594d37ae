//! The `rustc` on the path, and the target that rustup adds to it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::WASM_TARGET_TRIPLE;
use spotter_cache as cache;
use spotter_progress::{ProgressStep, print_message};

/// How long to wait after rustup has failed before trying it again.
const RETRY_INTERVAL: Duration = Duration::from_hours(1);

/// Whether the `rustc` on the path has the target's standard library.
pub(super) fn has_standard_library() -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET_TRIPLE])
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else { return false };
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Adds the target with rustup. Returns whether the `rustc` on the path then has it.
pub(super) fn add_target() -> bool {
    let step = ProgressStep::start(format!(
        "Installing the standard library for {WASM_TARGET_TRIPLE} with rustup"
    ));
    match Command::new("rustup").args(["target", "add", WASM_TARGET_TRIPLE]).output() {
        Ok(output) if output.status.success() => {
            step.done(format!("Installed the standard library for {WASM_TARGET_TRIPLE}"));
            has_standard_library()
        }
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            drop(step);
            print_message(&format!("rustup failed: {}", errors.lines().last().unwrap_or_default()));
            remember_failure();
            false
        }
        Err(_) => {
            drop(step);
            print_message("rustup is not installed");
            false
        }
    }
}

/// Whether rustup failed within the last hour.
pub(super) fn failed_recently() -> bool {
    let modified = failure().and_then(|file| std::fs::metadata(file).ok()?.modified().ok());
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < RETRY_INTERVAL)
}

fn remember_failure() {
    if let Some(file) = failure() {
        // If this fails, rustup is only tried once more than necessary.
        let _ = cache::write_atomically(&file, b"");
    }
}

fn failure() -> Option<PathBuf> {
    Some(cache::folder("toolchain").ok()?.join("rustup-failed"))
}
