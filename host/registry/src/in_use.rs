//! Which applications in the cache are in use, so that old ones can be removed. Each process that uses one holds a
//! shared lock on its folder until it ends.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Applications that have not been used for this long are removed.
const MAX_UNUSED_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The folders that this process uses.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Whether a folder holds a whole application. If so, it stays as long as this process runs.
pub fn hold(folder: &Path) -> bool {
    // Locked before it is looked at: another process may be removing it.
    let Ok(file) = File::open(folder) else { return false };
    if file.lock_shared().is_err() || !folder.join("spin.toml").exists() {
        return false;
    }
    // If this fails, the application is removed too early, and is pulled again.
    let _ = file.set_modified(SystemTime::now());
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    true
}

/// Removes the applications of a folder that no process uses and that have not been used for a long time, and what
/// processes left that were killed while they unpacked one.
pub fn remove_unused(applications: &Path) {
    remove_older(applications, MAX_UNUSED_AGE);
}

fn remove_older(applications: &Path, age: Duration) {
    let Ok(entries) = fs::read_dir(applications) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let used = entry.metadata().and_then(|metadata| metadata.modified());
        if !used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > age)) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            // Another process may be removing it too.
            let _ = fs::remove_file(path.join("spin.toml"));
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, File, SystemTime, fs, hold, remove_older};

    #[test]
    fn old_applications_are_removed_unless_they_are_in_use() {
        const HOUR: Duration = Duration::from_secs(3600);
        let cache = tempfile::tempdir().unwrap();
        let folder = |name: &str, age: Duration| {
            let path = cache.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("spin.toml"), "").unwrap();
            File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
            path
        };
        let (new, old) = (folder("new", HOUR), folder("old", 3 * HOUR));
        let (used, again) = (folder("used", 3 * HOUR), folder("again", 3 * HOUR));
        let in_use = File::open(&used).unwrap();
        in_use.lock_shared().unwrap();
        assert!(hold(&again));
        assert!(!hold(&cache.path().join("none")));
        remove_older(cache.path(), 2 * HOUR);
        assert!(new.exists() && used.exists() && again.exists() && !old.exists());
        drop(in_use);
        remove_older(cache.path(), 2 * HOUR);
        assert!(!used.exists() && again.exists());
    }
}
