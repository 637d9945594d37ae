//! Restarts containerd and waits until it is healthy.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use spotter_progress::print;

/// How often containerd is asked whether it is healthy.
const HEALTH_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a command that restarts containerd.
///
/// # Errors
/// If it cannot be started, or fails.
pub(super) fn run(command: &[String], path: Option<&str>) -> anyhow::Result<()> {
    let shown = command.join(" ");
    print(&format!("running {shown}"));
    let (program, arguments) = command
        .split_first()
        .context("the command that restarts containerd is empty; name one with --restart")?;
    let ran = on_path(program, path).args(arguments).output();
    let ran = ran
        .with_context(|| format!("cannot run `{shown}`; use --restart to name another command"))?;
    ensure!(ran.status.success(), "`{shown}` failed: {}", last_lines(&ran));
    Ok(())
}

/// Waits until a check passes.
///
/// # Errors
/// The check's last error, if it has not passed in time.
pub(super) fn wait(
    timeout: Duration,
    check: impl Fn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let Err(error) = check() else {
            print(&format!("containerd is healthy after {:.1} s", began.elapsed().as_secs_f64()));
            return Ok(());
        };
        if began.elapsed() > timeout {
            return Err(error.context(format!(
                "containerd is not healthy {} s after its restart",
                timeout.as_secs()
            )));
        }
        std::thread::sleep(HEALTH_POLL_INTERVAL);
    }
}

/// Checks that containerd can load a configuration, without running it. If containerd is not on the PATH, as in
/// distributions that bundle it, only the restart shows this.
///
/// # Errors
/// If it does not load.
pub(super) fn check_loads(config: &Path, path: Option<&str>) -> anyhow::Result<()> {
    let mut command = on_path("containerd", path);
    match command.arg("--config").arg(config).args(["config", "dump"]).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context("cannot run containerd"),
        Ok(ran) => {
            ensure!(ran.status.success(), "{}", last_lines(&ran));
            Ok(())
        }
    }
}

/// A command for one of the node's programs. Rust looks it up on the PATH that the command gets.
fn on_path(program: &str, path: Option<&str>) -> Command {
    let mut command = Command::new(program);
    command.envs(path.map(|path| ("PATH", path)));
    command
}

/// The end of what a command wrote to its standard error.
fn last_lines(ran: &Output) -> String {
    let said = String::from_utf8_lossy(&ran.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
