//! `spotter up` in a container: the same command line, with defaults for a pod.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Parser;

use spotter_server::signals::Signals;
use spotter_server::tls::choose_cryptography;

use crate::serve::{CompiledPaths, Serve};
use crate::{EX_USAGE, block_on};
use spotter_app::App;
use spotter_progress::say;

/// Defaults in a pod, unless its arguments or environment set something else: flag, variable, value.
const POD_FLAG_DEFAULTS: [(&str, &str, &str); 5] = [
    ("--listen", "SPIN_HTTP_LISTEN_ADDR", "0.0.0.0:80"),
    ("--admin", "SPOTTER_ADMIN", "0.0.0.0:3001"),
    ("--log-format", "SPOTTER_LOG_FORMAT", "json"),
    // Less than the 30 s after which Kubernetes kills the pod.
    ("--grace", "SPOTTER_GRACE", "25s"),
    ("--state-dir", "SPOTTER_STATE_DIR", "/var/lib/spotter"),
];

/// A container's command line, without the program.
#[derive(Parser)]
#[command(name = "spotter up", no_binary_name = true)]
struct PodArguments {
    #[command(flatten)]
    up: Serve,
}

/// Loads the application that a container will serve, with the container's arguments and environment.
///
/// # Errors
/// If the arguments or the manifest are invalid.
pub fn load(
    manifest: &Path,
    arguments: &[String],
    environment: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<App> {
    let pod = PodArguments::try_parse_from(command_line(manifest, arguments, |_| false))?;
    pod.up.load_for(environment)
}

/// Serves an application until a signal to stop, and returns the exit status.
pub fn serve(manifest: &Path, arguments: &[String], compiled: &CompiledPaths) -> i32 {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    choose_cryptography();
    let served = match PodArguments::try_parse_from(command_line(manifest, arguments, is_set)) {
        Ok(pod) => block_on(wait_for(compiled)).and_then(|waited| match waited {
            Waited::CompiledPaths => pod.up.run(compiled, |_| Ok(())),
            Waited::Stopped => Ok(()),
        }),
        Err(error) => {
            let _ = error.print();
            return EX_USAGE.into();
        }
    };
    match served {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("error: {error:#}"));
            1
        }
    }
}

/// What ended the wait for compiled code.
enum Waited {
    CompiledPaths,
    /// A signal to stop.
    Stopped,
}

/// Waits until the shim has compiled all components.
///
/// # Errors
/// If one cannot be compiled.
async fn wait_for(compiled: &CompiledPaths) -> anyhow::Result<Waited> {
    const CODE_POLL_INTERVAL: Duration = Duration::from_millis(50);
    let mut signals = Signals::new()?;
    if compiled.values().any(|code| !code.exists()) {
        say("Waiting for the compiler");
    }
    for (id, code) in compiled {
        while !code.exists() {
            if let Ok(failure) = std::fs::read_to_string(failure_of(code)) {
                bail!("cannot compile `{id}`: {failure}");
            }
            tokio::select! {
                () = tokio::time::sleep(CODE_POLL_INTERVAL) => {}
                () = signals.stop() => return Ok(Waited::Stopped),
            }
        }
    }
    Ok(Waited::CompiledPaths)
}

/// The file in which the shim records why it cannot compile the code for this path.
#[must_use]
pub fn failure_of(code: &Path) -> PathBuf {
    code.with_extension("error")
}

fn command_line(
    manifest: &Path,
    arguments: &[String],
    is_set: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut line = vec!["--from".to_owned(), manifest.display().to_string()];
    for (flag, variable, value) in POD_FLAG_DEFAULTS {
        let is_given = arguments.iter().any(|argument| argument.starts_with(flag));
        if !is_given && !is_set(variable) {
            line.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    line.extend_from_slice(arguments);
    line
}

#[cfg(test)]
mod tests {
    use super::{POD_FLAG_DEFAULTS, command_line};
    use std::path::Path;

    #[test]
    fn a_pods_own_arguments_and_environment_go_before_the_defaults() {
        let line = |arguments: &[&str], set: &str| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            command_line(Path::new("/spin.toml"), &arguments, |name| name == set).join(" ")
        };
        let usual = line(&[], "");
        for (flag, _, value) in POD_FLAG_DEFAULTS {
            assert!(usual.contains(&format!("{flag} {value}")), "{usual}");
        }
        let own = line(&["--listen=0.0.0.0:8080", "--instances", "4"], "SPOTTER_ADMIN");
        assert!(!own.contains("0.0.0.0:80 ") && !own.contains("--admin"), "{own}");
        assert!(own.ends_with("--listen=0.0.0.0:8080 --instances 4"), "{own}");
    }
}
