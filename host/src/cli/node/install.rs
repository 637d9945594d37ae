//! `spotter node install` and `uninstall`: put the shim and its runtime on a node, or take them off.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::label::{LabelArguments, NodeLabel};
use spotter_config::units::HumanDuration;
use spotter_node::install::{Installer, Mode, SHIM_FILE_NAME, namespace};

/// The node's PATH: a container does not have the node's environment.
const NODE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Args)]
pub(super) struct Install {
    /// The shim to install [default: the one next to this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
pub(super) struct Uninstall {
    #[command(flatten)]
    options: Options,
}

/// Options of both commands.
#[derive(Args)]
struct Options {
    /// The root of the node's file system. If it is not /, containerd is restarted only with --restart
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// First enter the mount namespace of this process; use 1 in a privileged container with hostPID
    #[arg(long, value_name = "PID", conflicts_with = "root")]
    enter: Option<u32>,
    /// containerd's configuration, version 2, 3 or 4; installing creates it if it does not exist
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    containerd_config: PathBuf,
    /// containerd's socket
    #[arg(long, value_name = "FILE", default_value = "/run/containerd/containerd.sock")]
    containerd_socket: PathBuf,
    /// The folder for the shim, on containerd's PATH
    #[arg(long, value_name = "FOLDER", default_value = "/usr/local/bin")]
    bin_dir: PathBuf,
    /// The program that restarts containerd, and its arguments, separated by spaces
    /// [default: systemctl restart containerd]
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
    /// Do not restart containerd
    #[arg(long, conflicts_with = "restart")]
    no_restart: bool,
    /// How long to wait until containerd is healthy
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: HumanDuration,
    #[command(flatten)]
    label: LabelArguments,
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
}

impl Install {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let source = match self.binary {
            Some(binary) => binary,
            None => std::env::current_exe()?.with_file_name(SHIM_FILE_NAME),
        };
        let shim = std::fs::read(&source).with_context(|| {
            format!(
                "cannot read {}; build it with `cargo build --release -p containerd-shim-spotter`, or name it with --binary",
                source.display()
            )
        })?;
        let (installer, label) = self.options.prepare()?;
        installer.install(&shim, self.options.mode())?;
        match label {
            Some(label) => label.set(),
            None => Ok(()),
        }
    }
}

impl Uninstall {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (installer, label) = self.options.prepare()?;
        // First, so that no further pods are scheduled to the node.
        if let Some(label) = label {
            label.remove()?;
        }
        installer.uninstall(self.options.mode())
    }
}

impl Options {
    fn mode(&self) -> Mode {
        if self.dry_run { Mode::DryRun } else { Mode::Change }
    }

    /// Reads what only the container has, and then enters the node.
    fn prepare(&self) -> anyhow::Result<(Installer, Option<NodeLabel>)> {
        let label = if self.dry_run { None } else { self.label.read()? };
        if let Some(pid) = self.enter {
            namespace::enter(pid)?;
        }
        let installer = Installer {
            root: self.root.clone(),
            config: self.containerd_config.clone(),
            socket: self.containerd_socket.clone(),
            bin_dir: self.bin_dir.clone(),
            restart: self.restart(),
            path: self.enter.map(|_| NODE_PATH.to_owned()),
            timeout: self.timeout.0,
        };
        Ok((installer, label))
    }

    fn restart(&self) -> Option<Vec<String>> {
        let is_this_machine = self.root == Path::new("/");
        let default =
            (is_this_machine && !self.no_restart).then_some("systemctl restart containerd");
        let command = self.restart.as_deref().or(default)?;
        Some(command.split_whitespace().map(str::to_owned).collect())
    }
}
