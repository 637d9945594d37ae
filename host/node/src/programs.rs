//! Finds programs on a machine's PATH.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The folders in which a service of systemd looks for programs.
const PROGRAM_FOLDERS: [&str; 6] =
    ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];

/// The executable of this name in those folders, on the machine whose root is `root`.
pub(super) fn find(root: &Path, name: &str) -> Option<PathBuf> {
    let is_runnable = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    PROGRAM_FOLDERS.iter().map(|folder| root.join(folder).join(name)).find(is_runnable)
}
