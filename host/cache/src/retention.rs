//! Decides what stays in a folder of the cache: only entries that were used recently, and only so many bytes in total.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How much a folder of the cache may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Entries that have not been used for this long are removed.
    pub max_unused: Duration,
    /// If the entries take more bytes of the disk than this, the least recently used ones are removed.
    pub max_bytes: u64,
    /// Entries that were used more recently than this always stay: a process may be about to open them.
    pub min_unused: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_unused: Duration::from_secs(30 * 24 * 60 * 60),
            max_bytes: 8 << 30,
            min_unused: Duration::from_secs(10 * 60),
        }
    }
}

/// An entry of a folder.
struct Entry {
    path: PathBuf,
    unused: Duration,
    bytes: u64,
}

impl Retention {
    /// Calls `remove` with each entry that need not stay, the least recently used first. `remove` returns whether it is
    /// gone.
    pub fn sweep(&self, folder: &Path, remove: impl Fn(&Path) -> bool) {
        let mut entries = entries(folder);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.unused));
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries {
            // Removing empty files, such as locks, frees no space.
            let makes_room =
                total > self.max_bytes && entry.bytes > 0 && entry.unused > self.min_unused;
            if (entry.unused > self.max_unused || makes_room) && remove(&entry.path) {
                total -= entry.bytes;
            }
        }
    }
}

fn entries(folder: &Path) -> Vec<Entry> {
    let Ok(listed) = fs::read_dir(folder) else { return Vec::new() };
    let entry = |entry: fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        // An entry from the future is in use.
        let unused = SystemTime::now().duration_since(metadata.modified().ok()?);
        let path = entry.path();
        let bytes = bytes(&path, &metadata);
        Some(Entry { path, unused: unused.unwrap_or_default(), bytes })
    };
    listed.flatten().filter_map(entry).collect()
}

/// The disk space that a file, or a folder and all below it, takes.
fn bytes(path: &Path, metadata: &Metadata) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    let own = metadata.blocks() * BLOCK_BYTES;
    if !metadata.is_dir() {
        return own;
    }
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    let below = below.filter_map(|entry| Some(bytes(&entry.path(), &entry.metadata().ok()?)));
    own + below.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    use super::Retention;

    const MINUTE: Duration = Duration::from_secs(60);

    fn file(folder: &Path, name: &str, bytes: usize, minutes: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, vec![1; bytes]).unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - minutes * MINUTE).unwrap();
        path
    }

    #[test]
    fn the_least_recently_used_go_first_until_the_rest_fits() {
        let cache = tempfile::tempdir().unwrap();
        let large = |name: &str, minutes| file(cache.path(), name, 1 << 20, minutes);
        let (oldest, older, old, new) =
            (large("oldest", 50), large("older", 40), large("old", 30), large("new", 1));
        let (lock, ancient) =
            (file(cache.path(), "lock", 0, 90), file(cache.path(), "ancient", 1, 200));
        let retention = Retention {
            max_unused: 100 * MINUTE,
            max_bytes: (5 << 20) / 2,
            min_unused: 10 * MINUTE,
        };
        let remove = |path: &Path| path != older && fs::remove_file(path).is_ok();
        retention.sweep(cache.path(), remove);
        // One cannot be removed, so a later one goes.
        assert!(!ancient.exists() && !oldest.exists() && older.exists() && !old.exists());
        assert!(lock.exists() && new.exists());
        // What was used just now stays, however little room there is.
        Retention { max_bytes: 0, ..retention }.sweep(cache.path(), remove);
        assert!(new.exists());
        let folder = cache.path().join("folder");
        fs::create_dir_all(folder.join("below")).unwrap();
        file(&folder.join("below"), "file", 1 << 20, 0);
        let metadata = folder.metadata().unwrap();
        assert!(super::bytes(&folder, &metadata) >= 1 << 20);
    }
}
