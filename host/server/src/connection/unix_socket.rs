//! A Unix socket in the file system: replaces one that a killed server left behind, and is removed when the server
//! stops.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::net::{UnixListener, UnixStream};

/// The file of a socket that this process listens on. Dropping it removes the file, unless another socket has taken
/// its place.
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

/// Binds a path, in place of the socket of a server that no longer runs.
///
/// # Errors
/// If another server listens there, the file is not a socket, or the path cannot be bound.
pub(super) async fn bind(path: &Path) -> anyhow::Result<(UnixListener, SocketFile)> {
    let path = std::path::absolute(path)?;
    let failed = || format!("cannot listen on unix:{}", path.display());
    let _lock = lock_folder(&path).await.with_context(failed)?;
    match fs::symlink_metadata(&path) {
        Ok(found) => remove_stale(&path, &found).await?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(failed),
    }
    let socket = UnixListener::bind(&path).with_context(failed)?;
    let id = id(&fs::symlink_metadata(&path).with_context(failed)?);
    Ok((socket, SocketFile { path, id }))
}

/// Locks the folder of a socket until the file is dropped. Otherwise, of two servers that start at once, one could
/// remove the socket that the other has just bound.
async fn lock_folder(path: &Path) -> anyhow::Result<File> {
    const LOCK_ATTEMPTS: usize = 50;
    const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(100);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder_file = File::open(folder).with_context(|| folder.display().to_string())?;
    for _ in 0..LOCK_ATTEMPTS {
        match folder_file.try_lock() {
            Ok(()) => return Ok(folder_file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_RETRY_INTERVAL).await,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", folder.display()));
            }
        }
    }
    bail!("another process keeps {} locked; choose another folder", folder.display())
}

/// Removes the socket of a server that no longer runs.
async fn remove_stale(path: &Path, found: &Metadata) -> anyhow::Result<()> {
    let name = path.display();
    ensure!(
        found.file_type().is_socket(),
        "{name} exists and is not a socket; remove it, or choose another path with --listen"
    );
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {name}"))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(error).with_context(|| format!("{name} is another user's socket"))
        }
        // A server whose backlog is full does not take the connection either.
        _ => {
            bail!("another server listens on {name}; stop it, or choose another path with --listen")
        }
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| id(&found) == self.id) {
            // Best effort: the next server finds that nobody listens on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
