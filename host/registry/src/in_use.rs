//! Which applications in the cache are in use, so that old ones can be removed. Each process that uses one holds a
//! shared lock on its folder until it ends.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use spotter_cache::Retention;

/// The folders that this process uses.
static HELD_FOLDERS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Locks a folder if it holds a complete application, so that it stays as long as this process runs. Returns whether it
/// does.
pub fn hold(folder: &Path) -> bool {
    // Locked before it is looked at: another process may be removing it.
    let Ok(file) = File::open(folder) else { return false };
    if file.lock_shared().is_err() || !folder.join("spin.toml").exists() {
        return false;
    }
    // If this fails, the application is removed too early, and is pulled again.
    let _ = file.set_modified(SystemTime::now());
    HELD_FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    true
}

/// Removes applications that no process uses, if they are old or too many, and the remains of processes that were
/// killed while they unpacked one.
pub fn remove_unused(applications: &Path) {
    sweep(applications, Retention::default());
}

fn sweep(applications: &Path, retention: Retention) {
    retention.sweep(applications, |path| {
        let Ok(file) = File::open(path) else { return false };
        if file.try_lock().is_err() {
            return false;
        }
        // Another process may be removing it too.
        let _ = fs::remove_file(path.join("spin.toml"));
        fs::remove_dir_all(path).is_ok()
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{File, Retention, SystemTime, fs, hold, sweep};

    #[test]
    fn old_applications_are_removed_unless_they_are_in_use() {
        const HOUR: Duration = Duration::from_secs(3600);
        let cache = tempfile::tempdir().unwrap();
        let folder = |name: &str, age: Duration| {
            let path = cache.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("spin.toml"), "a manifest").unwrap();
            File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
            path
        };
        let (new, old) = (folder("new", HOUR), folder("old", 3 * HOUR));
        let (used, again) = (folder("used", 3 * HOUR), folder("again", 3 * HOUR));
        let in_use = File::open(&used).unwrap();
        in_use.lock_shared().unwrap();
        assert!(hold(&again));
        assert!(!hold(&cache.path().join("none")));
        let retention = Retention { max_unused: 2 * HOUR, ..Retention::default() };
        sweep(cache.path(), retention);
        assert!(new.exists() && used.exists() && again.exists() && !old.exists());
        drop(in_use);
        sweep(cache.path(), retention);
        assert!(!used.exists() && again.exists());
        // There is room for nothing, but one is in use.
        assert!(new.exists());
        sweep(cache.path(), Retention { max_bytes: 0, ..retention });
        assert!(!new.exists() && again.exists());
    }
}
