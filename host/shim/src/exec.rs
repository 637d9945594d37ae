//! Commands in a running container. There is one, `spotter health`: a thread of the shim answers it, because a function's
//! container has no program that could. The kubelet shows the output of a probe that fails as an event of the pod.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, ensure};
use containerd_shim::api::ExecProcessRequest;
use oci_spec::runtime::Process;

use super::container_health::ContainerHealth;
use super::panic::catch_panic;
use super::process_state::{EXIT_STATUS_SIGKILL, Exit, ExitReason, ProcessState};
use super::stdio;

/// The most commands in a container at a time.
pub(super) const MAX_EXECS: usize = 16;

/// A command in a container.
pub(super) struct Exec {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) state: ProcessState,
}

impl Exec {
    /// The command that containerd asks for; `None` if it is not `spotter health`.
    ///
    /// # Errors
    /// If the request is malformed.
    pub(super) fn from_request(request: &ExecProcessRequest) -> anyhow::Result<Option<Self>> {
        let process: Process = serde_json::from_slice(&request.spec().value)
            .context("the specification of the process is malformed")?;
        if !is_health(process.args().as_deref().unwrap_or_default()) {
            return Ok(None);
        }
        Ok(Some(Self {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            state: ProcessState::default(),
        }))
    }

    /// Starts the command. `on_exit` is called when it has ended.
    ///
    /// # Errors
    /// If it has already been started, or no thread can be.
    pub(super) fn start(
        self: Arc<Self>,
        health: Arc<ContainerHealth>,
        on_exit: impl FnOnce(&Exit) + Send + 'static,
    ) -> anyhow::Result<()> {
        ensure!(self.state.set_started(), "the command has already been started");
        let started = Arc::clone(&self);
        let run = move || {
            // After a panic, containerd would wait for ever.
            let status = catch_panic(|| self.run(&health)).unwrap_or_else(|error| {
                log::warn!("`spotter health` failed in a container: {error:#}");
                1
            });
            let exit = Exit::now(status, ExitReason::Normal);
            if self.state.set_exit(exit.clone()) {
                on_exit(&exit);
            }
        };
        let spawned = std::thread::Builder::new().spawn(run).map(drop);
        spawned.inspect_err(|_| _ = started.kill()).context("cannot start a thread")
    }

    /// Ends the command for those who wait for it.
    pub(super) fn kill(&self) -> Option<Exit> {
        let exit = Exit::now(EXIT_STATUS_SIGKILL, ExitReason::Normal);
        self.state.set_exit(exit.clone()).then_some(exit)
    }

    /// Writes the answer, and returns the exit status. containerd waits until both streams were opened and closed.
    fn run(&self, health: &ContainerHealth) -> anyhow::Result<u32> {
        let (mut stdout, mut stderr) = (stdio::open(&self.stdout)?, stdio::open(&self.stderr)?);
        let (stream, line, status) = match health.check() {
            Ok(()) => (&mut stdout, "ready".to_owned(), 0),
            Err(error) => (&mut stderr, format!("{error:#}"), 1),
        };
        if let Some(stream) = stream {
            writeln!(stream, "{line}")?;
        }
        Ok(status)
    }
}

/// Whether a command line is `spotter health`, under whatever path the image of another runtime has `spotter`.
fn is_health(arguments: &[String]) -> bool {
    let [program, rest @ ..] = arguments else { return false };
    program.rsplit('/').next() == Some("spotter") && rest == ["health"]
}

#[cfg(test)]
mod tests {
    use super::is_health;

    #[test]
    fn only_the_health_command_is_executed() {
        for (line, expected) in [
            ("/spotter health", true),
            ("spotter health", true),
            ("spotter", false),
            ("spotter health --admin 10.0.0.1:80", false),
            ("sh -c health", false),
            ("", false),
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(is_health(&arguments), expected, "{line}");
        }
    }
}
