//! `spotter shim`: installs the containerd shim on a node, or removes it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use similar::TextDiff;

use spotter_node::containerd::{self, RuntimeEntry};
use spotter_progress::{print, print_message};

/// The file name by which containerd finds the shim.
const SHIM_FILE_NAME: &str = "containerd-shim-spotter-v1";

/// Install the containerd shim on this node, or remove it
#[derive(Args)]
pub(super) struct Shim {
    #[command(subcommand)]
    command: ShimCommand,
}

#[derive(Subcommand)]
enum ShimCommand {
    /// Copy the shim to containerd's path, and add its runtime to containerd's configuration
    Install(Install),
    /// Remove the shim, and its runtime from containerd's configuration
    Uninstall(Options),
}

#[derive(Args)]
struct Install {
    #[command(flatten)]
    options: Options,
    /// The shim to install [default: the one next to this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Options of both commands.
#[derive(Args)]
struct Options {
    /// containerd's configuration, version 2, 3 or 4; installing creates it if it does not exist
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    containerd_config: PathBuf,
    /// The folder for the shim, on containerd's PATH
    #[arg(long, value_name = "FOLDER", default_value = "/usr/local/bin")]
    bin_dir: PathBuf,
    /// Print the changes without making them
    #[arg(long)]
    dry_run: bool,
}

impl Shim {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            ShimCommand::Install(install) => install.run(),
            ShimCommand::Uninstall(options) => options.uninstall(),
        }
    }
}

impl Install {
    fn run(self) -> anyhow::Result<()> {
        let source = match self.binary {
            Some(binary) => binary,
            None => std::env::current_exe()?.with_file_name(SHIM_FILE_NAME),
        };
        let options = self.options;
        let bytes = std::fs::read(&source).with_context(|| {
            format!(
                "cannot read {}; build it with `cargo build --release -p containerd-shim-spotter`, or name it with --binary",
                source.display()
            )
        })?;
        ensure!(
            bytes.starts_with(b"\x7fELF"),
            "{} is not a program for Linux; name the shim with --binary",
            source.display()
        );
        let target = options.shim_path();
        let mut changed = false;
        let is_runnable = std::fs::metadata(&target)
            .is_ok_and(|metadata| metadata.permissions().mode() & 0o111 == 0o111);
        if !is_runnable || std::fs::read(&target).ok().as_ref() != Some(&bytes) {
            changed = true;
            print(&format!("{} {}", options.verb("write", "writing"), target.display()));
            if !options.dry_run {
                replace(&target, &bytes, std::fs::Permissions::from_mode(0o755))?;
            }
        }
        changed |= options.configure(RuntimeEntry::Present)?;
        options.print_outcome(changed);
        Ok(())
    }
}

impl Options {
    fn uninstall(self) -> anyhow::Result<()> {
        let target = self.shim_path();
        let mut changed = self.configure(RuntimeEntry::Absent)?;
        if target.exists() {
            changed = true;
            print(&format!("{} {}", self.verb("remove", "removing"), target.display()));
            if !self.dry_run {
                std::fs::remove_file(&target)
                    .with_context(|| format!("cannot remove {}", target.display()))?;
            }
        }
        self.print_outcome(changed);
        Ok(())
    }

    /// Edits containerd's configuration, and returns whether that changes it.
    fn configure(&self, entry: RuntimeEntry) -> anyhow::Result<bool> {
        let path = &self.containerd_config;
        let shown = path.display();
        let before = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        let after = containerd::edit(&before, entry).with_context(|| format!("in {shown}"))?;
        if before == after {
            return Ok(false);
        }
        let difference = TextDiff::from_lines(&before, &after);
        let name = path.display().to_string();
        print(difference.unified_diff().header(&name, &name).to_string().trim_end());
        if !self.dry_run {
            // If it is a symbolic link, replace its target.
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            if after.is_empty() {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {shown}"))?;
                return Ok(true);
            }
            let permissions = match std::fs::metadata(&path) {
                Ok(metadata) => metadata.permissions(),
                Err(_) => std::fs::Permissions::from_mode(0o644),
            };
            replace(&path, after.as_bytes(), permissions)?;
        }
        Ok(true)
    }

    fn shim_path(&self) -> PathBuf {
        self.bin_dir.join(SHIM_FILE_NAME)
    }

    fn verb(&self, would: &'static str, does: &'static str) -> String {
        if self.dry_run { format!("would {would}") } else { does.to_owned() }
    }

    fn print_outcome(&self, changed: bool) {
        match (changed, self.dry_run) {
            (false, _) => print_message("nothing to do"),
            (true, true) => print_message("dry run: nothing was changed"),
            (true, false) => print_message(
                "to apply the change, restart containerd: systemctl restart containerd",
            ),
        }
    }
}

/// Replaces a file atomically, because containerd may start the program at any time.
fn replace(path: &Path, bytes: &[u8], permissions: std::fs::Permissions) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(context)?;
    let file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    std::fs::write(file.path(), bytes).with_context(context)?;
    std::fs::set_permissions(file.path(), permissions).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}
