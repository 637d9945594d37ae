//! Installs the shim on a node and adds its runtime to containerd's configuration, or removes both. containerd is
//! restarted only if its configuration changed; if it is not healthy afterwards, the old configuration is restored.

mod configuration;
mod cri;
mod journal;
pub mod namespace;
mod restart;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use spotter_progress::{print, print_message};

use crate::containerd::{RUNTIME_HANDLER, RuntimeEntry};
use configuration::{Configuration, below, remove_made_folder};
use journal::{FileChange, Journal, replace};

/// The file name by which containerd finds the shim.
pub const SHIM_FILE_NAME: &str = "containerd-shim-spotter-v1";

/// The node, and the paths on it that the installer needs. Paths are the node's own.
#[derive(Clone, Debug)]
pub struct Installer {
    /// The node's root file system. Programs of the node are run only if it is `/`.
    pub root: PathBuf,
    /// containerd's configuration.
    pub config: PathBuf,
    /// containerd's socket.
    pub socket: PathBuf,
    /// The folder for the shim, on containerd's PATH.
    pub bin_dir: PathBuf,
    /// The program, with its arguments, that restarts containerd; `None` to leave that to the caller.
    pub restart: Option<Vec<String>>,
    /// The PATH with the node's programs; `None` for this process's own.
    pub path: Option<String>,
    /// How long to wait until containerd is healthy.
    pub timeout: Duration,
}

/// Whether changes are made, or only printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Change,
    DryRun,
}

/// Whether containerd's configuration at `config`, or a file that it imports, has the runtime. Both are below `root`.
///
/// # Errors
/// If a file cannot be read, or is not a configuration that is supported.
pub fn has_runtime(root: &Path, config: &Path) -> anyhow::Result<bool> {
    let configuration = Configuration::read(root, config)?;
    Ok(configuration.changes(root, RuntimeEntry::Present)?.is_empty())
}

impl Installer {
    /// Installs a shim, or upgrades to it. Running pods keep the shim that they were started with.
    ///
    /// # Errors
    /// If the shim does not run on this node, a file cannot be read or written, or containerd is not healthy with
    /// the new configuration. Then the node is as it was before, unless the error says otherwise.
    pub fn install(&self, shim: &[u8], mode: Mode) -> anyhow::Result<()> {
        ensure!(
            shim.starts_with(b"\x7fELF"),
            "the shim is not a program for Linux; name it with --binary"
        );
        let target = self.shim_path();
        let before = fs::read(&target).ok();
        let is_new = before.as_deref() != Some(shim) || !is_executable(&target);
        if mode == Mode::DryRun {
            if is_new {
                print(&format!("would write {}", target.display()));
            }
            return self.print_plan(RuntimeEntry::Present, is_new);
        }
        self.roll_back_interrupted()?;
        if is_new {
            self.check_shim(shim)?;
        }
        let changes = self.plan(RuntimeEntry::Present)?;
        self.check_before(&changes)?;
        if is_new {
            print(&format!("writing {}", target.display()));
            replace(&target, shim, 0o755)?;
        }
        if let Err(error) = self.configure(&changes, RuntimeEntry::Present) {
            if is_new {
                restore_shim(&target, before.as_deref())?;
            }
            return Err(error);
        }
        self.print_outcome(is_new, &changes);
        Ok(())
    }

    /// Removes the runtime and the shim from the node.
    ///
    /// # Errors
    /// If pods still run with it, a file cannot be read or written, or containerd is not healthy without it.
    pub fn uninstall(&self, mode: Mode) -> anyhow::Result<()> {
        let target = self.shim_path();
        if mode == Mode::DryRun {
            if target.exists() {
                print(&format!("would remove {}", target.display()));
            }
            return self.print_plan(RuntimeEntry::Absent, target.exists());
        }
        self.roll_back_interrupted()?;
        let changes = self.plan(RuntimeEntry::Absent)?;
        if self.restart.is_some() && (target.exists() || !changes.is_empty()) {
            self.ensure_unused()?;
        }
        self.check_before(&changes)?;
        self.configure(&changes, RuntimeEntry::Absent)?;
        changes.iter().for_each(remove_made_folder);
        let is_there = target.exists();
        if is_there {
            print(&format!("removing {}", target.display()));
            fs::remove_file(&target)
                .with_context(|| format!("cannot remove {}", target.display()))?;
        }
        self.print_outcome(is_there, &changes);
        Ok(())
    }

    fn shim_path(&self) -> PathBuf {
        below(&self.root, &self.bin_dir).join(SHIM_FILE_NAME)
    }

    fn socket_path(&self) -> PathBuf {
        below(&self.root, &self.socket)
    }

    /// The path of the journal, which lists the changes that are not yet known to work.
    fn journal_path(&self) -> PathBuf {
        let mut name = below(&self.root, &self.config).into_os_string();
        name.push(".spotter-pending");
        name.into()
    }

    fn plan(&self, entry: RuntimeEntry) -> anyhow::Result<Vec<FileChange>> {
        Configuration::read(&self.root, &self.config)?.changes(&self.root, entry)
    }

    fn print_plan(&self, entry: RuntimeEntry, is_shim_changed: bool) -> anyhow::Result<()> {
        let changes = self.plan(entry)?;
        changes.iter().for_each(|change| print(&change.diff()));
        if !changes.is_empty()
            && let Some(command) = &self.restart
        {
            print(&format!("would run {}", command.join(" ")));
        }
        let changed = is_shim_changed || !changes.is_empty();
        print_message(if changed { "dry run: nothing was changed" } else { "nothing to do" });
        Ok(())
    }

    fn print_outcome(&self, is_shim_changed: bool, changes: &[FileChange]) {
        if changes.is_empty() && !is_shim_changed {
            print_message("nothing to do");
        } else if !changes.is_empty() && self.restart.is_none() {
            print_message("to apply the change, restart containerd: systemctl restart containerd");
        }
    }

    /// Rolls back what an earlier run changed if it was interrupted before it knew that containerd is healthy.
    fn roll_back_interrupted(&self) -> anyhow::Result<()> {
        let Some(journal) = Journal::load(&self.journal_path())? else { return Ok(()) };
        print_message("an earlier run was interrupted: its changes are rolled back first");
        if self.restart.is_none() {
            return journal.roll_back();
        }
        journal.restore_files()?;
        self.restart_and_wait(None)?;
        journal.close()
    }

    /// Runs the shim on the node before anything is changed: it may be for another processor or C library.
    fn check_shim(&self, shim: &[u8]) -> anyhow::Result<()> {
        if self.root != Path::new("/") {
            return Ok(());
        }
        let folder = below(&self.root, &self.bin_dir);
        let context = || format!("cannot write to {}", folder.display());
        fs::create_dir_all(&folder).with_context(context)?;
        let mut file = tempfile::NamedTempFile::new_in(&folder).with_context(context)?;
        file.write_all(shim).with_context(context)?;
        fs::set_permissions(file.path(), Permissions::from_mode(0o700)).with_context(context)?;
        // Linux runs no program that is open for writing.
        let path = file.into_temp_path();
        let failed = "the shim does not run on this node, so nothing was changed";
        let ran = Command::new(&path).arg("-v").output().context(failed)?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "{failed}: {}", said.trim());
        Ok(())
    }

    /// Leaves an unhealthy node alone: otherwise its problem would look like this command's fault.
    fn check_before(&self, changes: &[FileChange]) -> anyhow::Result<()> {
        if changes.is_empty() || self.restart.is_none() {
            return Ok(());
        }
        cri::check(&self.socket_path(), None)
            .context("containerd is not healthy, so nothing was changed")
    }

    fn ensure_unused(&self) -> anyhow::Result<()> {
        let pods = cri::running_pods(&self.socket_path(), RUNTIME_HANDLER)
            .context("cannot find out whether pods use the shim, so nothing was changed")?;
        ensure!(
            pods.is_empty(),
            "pods run with the shim, so nothing was changed; delete them first: {}",
            pods.join(", ")
        );
        Ok(())
    }

    /// Makes the changes, and rolls them back if containerd is not healthy with them.
    fn configure(&self, changes: &[FileChange], entry: RuntimeEntry) -> anyhow::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        changes.iter().for_each(|change| print(&change.diff()));
        let journal = Journal::apply(&self.journal_path(), changes.to_vec())?;
        if self.restart.is_none() {
            return journal.close();
        }
        if let Err(error) = self.check_loads() {
            journal.roll_back()?;
            return Err(error.context(
                "containerd would not load the configuration, so the old one was restored",
            ));
        }
        let runtime = (entry == RuntimeEntry::Present).then_some(RUNTIME_HANDLER);
        let Err(error) = self.restart_and_wait(runtime) else { return journal.close() };
        print_message(&format!("{error:#}"));
        print_message("restoring the old configuration");
        journal.restore_files()?;
        if let Err(second) = self.restart_and_wait(None) {
            bail!(
                "containerd is not healthy with its old configuration either: {second:#}. The first error: {error:#}"
            );
        }
        journal.close()?;
        Err(error.context(
            "containerd was not healthy with the new configuration, so the old one is restored, and containerd is healthy \
             with it",
        ))
    }

    /// Checks that containerd can load the new configuration, without a restart.
    fn check_loads(&self) -> anyhow::Result<()> {
        if self.root != Path::new("/") {
            return Ok(());
        }
        restart::check_loads(&self.config, self.path.as_deref())
    }

    fn restart_and_wait(&self, runtime: Option<&str>) -> anyhow::Result<()> {
        let Some(command) = &self.restart else { return Ok(()) };
        restart::run(command, self.path.as_deref())?;
        restart::wait(self.timeout, || cri::check(&self.socket_path(), runtime))
    }
}

/// Restores what was at the shim's path.
fn restore_shim(target: &Path, before: Option<&[u8]>) -> anyhow::Result<()> {
    match before {
        Some(before) => replace(target, before, 0o755),
        None => {
            fs::remove_file(target).with_context(|| format!("cannot remove {}", target.display()))
        }
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 == 0o111)
}
