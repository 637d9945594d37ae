//! Changes to text files on a node that can be rolled back, even by a later run if this one is interrupted.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use similar::TextDiff;

/// A file before and after a change. An empty text stands for a missing file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileChange {
    pub(super) path: PathBuf,
    pub(super) before: String,
    pub(super) after: String,
}

impl FileChange {
    /// The change as a unified diff.
    pub(super) fn diff(&self) -> String {
        let name = self.path.display().to_string();
        let diff = TextDiff::from_lines(&self.before, &self.after);
        diff.unified_diff().header(&name, &name).to_string().trim_end().to_owned()
    }

    fn apply(&self) -> anyhow::Result<()> {
        put(&self.path, &self.after)
    }

    /// Restores the file, unless someone else has changed it meanwhile.
    fn revert(&self, journal: &Path) -> anyhow::Result<()> {
        let current = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {}", self.path.display()))?,
        };
        ensure!(
            current == self.after || current == self.before,
            "{} was changed after the run that was interrupted, so it is not restored; check it against {}, then remove \
             the latter",
            self.path.display(),
            journal.display()
        );
        put(&self.path, &self.before)
    }
}

/// The changes that a run has made, recorded in a file until containerd is healthy with them.
pub(super) struct Journal {
    path: PathBuf,
    changes: Vec<FileChange>,
}

impl Journal {
    /// Loads the journal that an interrupted run has left; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let changes = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is damaged: check containerd's configuration files, then remove it",
                path.display()
            )
        })?;
        Ok(Some(Self { path: path.to_owned(), changes }))
    }

    /// Records the changes, then makes them.
    ///
    /// # Errors
    /// If a file cannot be written. Then nothing is changed.
    pub(super) fn apply(path: &Path, changes: Vec<FileChange>) -> anyhow::Result<Self> {
        let journal = Self { path: path.to_owned(), changes };
        // The configuration may have secrets, such as a registry's password.
        replace(path, serde_json::to_string_pretty(&journal.changes)?.as_bytes(), 0o600)?;
        for change in &journal.changes {
            if let Err(error) = change.apply() {
                journal.roll_back()?;
                return Err(error);
            }
        }
        Ok(journal)
    }

    /// Restores the files, but keeps the journal, because containerd may still run with the changes.
    ///
    /// # Errors
    /// If a file cannot be written, or someone else has changed it.
    pub(super) fn restore_files(&self) -> anyhow::Result<()> {
        self.changes.iter().rev().try_for_each(|change| change.revert(&self.path))
    }

    /// Restores the files, and removes the journal.
    ///
    /// # Errors
    /// If a file cannot be written. The journal stays, so that the next run tries again.
    pub(super) fn roll_back(&self) -> anyhow::Result<()> {
        self.restore_files()?;
        self.close()
    }

    /// Removes the journal, because there is nothing left to roll back.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn close(&self) -> anyhow::Result<()> {
        fs::remove_file(&self.path)
            .with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// Writes a text file, or removes it if the text is empty.
fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    if !text.is_empty() {
        let mode = fs::metadata(path).map_or(0o644, |found| found.permissions().mode());
        return replace(path, text.as_bytes(), mode);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces a file atomically and durably. Processes that run or read the old one keep it.
///
/// # Errors
/// If writing fails. The error names the path.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(context)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    fs::set_permissions(file.path(), Permissions::from_mode(mode)).with_context(context)?;
    // A machine that loses its power must not find an empty configuration.
    file.as_file().sync_all().with_context(context)?;
    file.persist(path).with_context(context)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(context)
}
