//! Spotter's folders in the user's cache directory, and files that are written atomically.
//!
//! Compiled code must be as trustworthy as the program itself. So the folders and their files must belong to this
//! user and be writable by nobody else.

mod retention;

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};

pub use retention::Retention;

/// The folder that the user chose instead of the cache directory.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Uses this folder instead of the user's cache directory from now on. Call it once, before any other function.
pub fn use_instead(folder: PathBuf) {
    // Commands that run in other folders use it, too.
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    // A second call would split the cache.
    let _ = CHOSEN.set(folder);
}

/// The folder that the user chose, if any.
pub fn chosen_folder() -> Option<&'static Path> {
    CHOSEN.get().map(PathBuf::as_path)
}

/// One of Spotter's folders in the user's cache directory, created if necessary.
///
/// # Errors
/// If the user has no cache directory, or the folder cannot be created or trusted.
pub fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let base = CHOSEN.get().cloned().or_else(dirs::cache_dir);
    let base =
        base.context("there is no cache directory; set --cache-dir, XDG_CACHE_HOME or HOME")?;
    // The chosen folder may have files of the user's, which must not be removed as unused.
    let base = base.join("spotter");
    let folder = base.join(name);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    ensure_private(&base)?;
    ensure_private(&folder)?;
    Ok(folder)
}

/// Writes a file atomically, readable by its owner only.
///
/// # Errors
/// If writing fails. The error names the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// Writes a file atomically, with these permission bits.
///
/// # Errors
/// If writing fails. The error names the path.
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let context = || format!("cannot write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).with_context(context)?;
    // Otherwise a power failure could leave an empty file, which would be used from then on.
    file.as_file().sync_all().with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// How long a process waits to compile while another compiles. On a node, the other may be in a pod with hardly any
/// CPU time, and must not keep all others from starting.
const MAX_TURN: Duration = Duration::from_secs(120);

/// Waits for this process's turn to compile: until no other process has its turn, or the wait gets too long. Dropping
/// the file ends the turn.
///
/// # Errors
/// If the folder cannot be written.
pub fn lock_compilation() -> anyhow::Result<File> {
    let (turn, path) = compilation_turn()?;
    lock_within(&turn, MAX_TURN).with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(turn)
}

/// As [`lock_compilation`], without waiting: `None` if another process has its turn.
///
/// # Errors
/// If the folder cannot be written.
pub fn try_lock_compilation() -> anyhow::Result<Option<File>> {
    let (turn, path) = compilation_turn()?;
    match turn.try_lock() {
        Ok(()) => Ok(Some(turn)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn compilation_turn() -> anyhow::Result<(File, PathBuf)> {
    let path = folder("compiled")?.join("turn.lock");
    let turn = File::create(&path).with_context(|| format!("cannot lock {}", path.display()))?;
    Ok((turn, path))
}

/// Locks the file whose holder compiles an entry. Goes on without the lock when the wait gets too long, as for a turn.
///
/// # Errors
/// If the system refuses.
pub fn lock_entry(file: &File) -> std::io::Result<()> {
    lock_within(file, MAX_TURN)
}

fn lock_within(file: &File, patience: Duration) -> std::io::Result<()> {
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < patience => {
                std::thread::sleep(POLL_INTERVAL);
            }
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Notes that an entry was used now, so that it is not removed as unused.
pub fn touch(path: &Path) {
    let noted = File::options().append(true).open(path);
    // If this fails, the entry is removed too early and has to be compiled again.
    let _ = noted.and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes files that have not been used for long, and those beyond the space that the folder may take. A process that
/// has mapped a file keeps it.
pub fn remove_unused(folder: &Path) {
    // Another process may have removed it already.
    Retention::default().sweep(folder, |file| fs::remove_file(file).is_ok());
}

/// Checks that a file or folder belongs to this user and is writable by nobody else.
///
/// # Errors
/// If it is not. The error names the path.
pub fn ensure_private(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let owner = fs::metadata("/proc/self").map_or(metadata.uid(), |process| process.uid());
    ensure!(
        metadata.uid() == owner && metadata.permissions().mode() & 0o022 == 0,
        "{} belongs to another user or is writable by others, so compiled code in it cannot be \
         trusted; remove it, or set --cache-dir or XDG_CACHE_HOME to a folder of your own",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, Instant};

    use super::{folder, lock_compilation, lock_within, try_lock_compilation};

    #[test]
    fn only_one_process_has_its_turn() {
        let mine = lock_compilation().unwrap();
        assert!(try_lock_compilation().unwrap().is_none());
        let other = File::open(folder("compiled").unwrap().join("turn.lock")).unwrap();
        assert!(other.try_lock().is_err());
        // A process that takes too long does not keep others from compiling.
        let began = Instant::now();
        lock_within(&other, Duration::from_millis(100)).unwrap();
        assert!((100..5000).contains(&began.elapsed().as_millis()));
        drop(mine);
        // Others of this machine may compile at this moment.
        drop(lock_compilation().unwrap());
    }
}
