//! `spotter node`: checks whether a machine can be a node, makes it one, and prints the metrics of its bonds.

mod install;
mod label;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use spotter_node::check::{Finding, Role, Verdict, findings};
use spotter_node::metrics;
use spotter_node::state::MachineState;
use spotter_progress::print_message;
use spotter_up::block_on;

/// Make this machine a node that runs functions, or check whether it can be one
#[derive(Args)]
pub(super) struct Node {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Report each check as pass, warn or fail, with a fix for each that did not pass
    ///
    /// Exits with 1 if a check failed, otherwise with 0.
    Check(Check),
    /// Install the shim on this node, and add its runtime to containerd's configuration
    ///
    /// Restarts containerd only if its configuration changed, waits until it is healthy, and restores the old
    /// configuration if it is not. Running pods keep the shim that they were started with.
    Install(Box<install::Install>),
    /// Remove the shim and its runtime from this node; refused while pods use them, which `--no-restart` does not check
    Uninstall(Box<install::Uninstall>),
    /// Wait until SIGTERM; for the main container of a DaemonSet whose init container installs the shim
    Idle,
    /// Print metrics of this machine's network bonds, for the textfile collector of Prometheus's node exporter
    Metrics(Machine),
}

#[derive(Args)]
struct Check {
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Check this machine as a host of LXC nodes: it must have a network bond, and does not need containerd
    #[arg(long)]
    host: bool,
    /// containerd's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    containerd_config: PathBuf,
    #[command(flatten)]
    machine: Machine,
}

#[derive(Args)]
struct Machine {
    /// The root of the machine's file system
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
}

impl Node {
    pub(super) fn run(self) -> ExitCode {
        match self.command {
            NodeCommand::Check(check) => check.run(),
            NodeCommand::Install(install) => exit_code(install.run()),
            NodeCommand::Uninstall(uninstall) => exit_code(uninstall.run()),
            NodeCommand::Idle => exit_code(idle()),
            NodeCommand::Metrics(machine) => {
                print(&metrics::text(&machine.root));
                ExitCode::SUCCESS
            }
        }
    }
}

impl Check {
    fn run(self) -> ExitCode {
        let state = MachineState::read(&self.machine.root, &self.containerd_config);
        let role = if self.host { Role::Host } else { Role::Node };
        let findings = findings(&state, role);
        let passed = findings.iter().all(|finding| finding.verdict != Verdict::Fail);
        if self.json {
            let all = json!({"ok": passed, "findings": findings, "bonds": state.bonds, "links": state.links});
            print(&format!("{all:#}\n"));
        } else {
            print(&findings.iter().map(line).collect::<String>());
        }
        if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_message(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn idle() -> anyhow::Result<()> {
    block_on(async {
        signal(SignalKind::terminate())?.recv().await;
        Ok(())
    })
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    let fix = finding.fix.as_ref().map(|fix| format!("     fix: {fix}\n")).unwrap_or_default();
    format!("{verdict} {}: {} [{}]\n{fix}", finding.subject, finding.message, finding.code)
}

#[allow(clippy::print_stdout, reason = "the output of the command")]
fn print(text: &str) {
    use std::io::Write;
    // The reader may have closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
