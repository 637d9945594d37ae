//! Batches that several processes share and that are resumed: `--shard` and `--resume`.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// One of several parts of a batch. A picture's name alone decides which part it belongs to, so processes that see the
/// folder at different times still agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shard {
    /// From 0.
    index: u64,
    count: u64,
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let expected = || format!("{text:?} is not a shard; write I/N, from 0/N to N-1/N");
        let (index, count) = text.split_once('/').with_context(expected)?;
        let shard = Self {
            index: index.parse().with_context(expected)?,
            count: count.parse().with_context(expected)?,
        };
        ensure!(shard.index < shard.count, expected());
        Ok(shard)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// Whether the picture of this name is in the part.
    pub(super) fn has(self, name: &str) -> bool {
        let mut start = [0; 8];
        start.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
        u64::from_le_bytes(start) % self.count == self.index
    }
}

/// A file of JSON lines with the results so far, to which further ones are appended.
pub(super) struct Results {
    file: File,
    path: PathBuf,
    /// The hashes of the names of the pictures that it has a result for.
    done: HashSet<[u8; 32]>,
}

/// The parts of a line that matter here.
#[derive(Deserialize)]
struct Line {
    file: String,
    error: Option<LineError>,
}

#[derive(Deserialize)]
struct LineError {
    #[serde(default)]
    retry: bool,
}

impl Results {
    /// Opens the file, or creates it. Removes an incomplete last line, and the errors of pictures that are to be tried
    /// again.
    ///
    /// # Errors
    /// If the file cannot be read or written, contains something else, or another process appends to it.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let context = || format!("cannot resume {shown}");
        let file = File::options().read(true).append(true).create(true).open(path);
        let file = file.with_context(context)?;
        lock(&file, path)?;
        let mut results =
            Self { file: file.try_clone()?, path: path.to_owned(), done: HashSet::new() };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let kept = tempfile::NamedTempFile::new_in(parent).with_context(context)?;
        if results.keep(&file, kept.as_file()).with_context(context)? {
            // Locked before it gets the name, so that no other process can lock it first.
            lock(kept.as_file(), path)?;
            let permissions = file.metadata().with_context(context)?.permissions();
            kept.as_file().set_permissions(permissions).with_context(context)?;
            kept.as_file().sync_all().with_context(context)?;
            results.file = kept.persist(path).with_context(context)?;
        }
        Ok(results)
    }

    /// Copies the lines to keep. Returns whether any were dropped.
    fn keep(&mut self, from: &File, to: &File) -> anyhow::Result<bool> {
        let mut lines = BufReader::new(from);
        let mut to = BufWriter::new(to);
        let mut is_changed = false;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if !line.ends_with(b"\n") {
                is_changed = true;
                break;
            }
            let parsed: Line = serde_json::from_slice(&line)
                .with_context(|| format!("line {number} is not a result of `spotter detect`"))?;
            if parsed.error.is_some_and(|error| error.retry) {
                is_changed = true;
                continue;
            }
            self.done.insert(key(&parsed.file));
            to.write_all(&line)?;
        }
        to.flush()?;
        Ok(is_changed)
    }

    /// Whether it has a result for the picture of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.done.contains(&key(name))
    }

    /// What results are appended to: a whole line at a time.
    ///
    /// # Errors
    /// If the file's handle cannot be duplicated.
    pub(super) fn writer(&self) -> anyhow::Result<BufWriter<File>> {
        Ok(BufWriter::with_capacity(1 << 20, self.file.try_clone()?))
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        self.file.sync_all().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn key(name: &str) -> [u8; 32] {
    *blake3::hash(name.as_bytes()).as_bytes()
}

fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another process is writing {}: give each process its own --resume file",
                path.display()
            )
        }
        // Some network file systems have no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Results, Shard};

    #[test]
    fn every_picture_is_in_one_shard_and_shards_are_about_as_large() {
        let shards: Vec<Shard> =
            (0..4).map(|index| format!("{index}/4").parse().unwrap()).collect();
        let mut sizes = [0; 4];
        for number in 0..1000 {
            let name = format!("/pictures/{number}.jpg");
            let owners: Vec<usize> = (0..4).filter(|index| shards[*index].has(&name)).collect();
            assert_eq!(owners.len(), 1, "{name}");
            sizes[owners[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (200..300).contains(size)), "{sizes:?}");
        for wrong in ["4/4", "1", "a/2", "-1/2", "0/0", "1/2/3"] {
            let refused = wrong.parse::<Shard>().unwrap_err();
            assert!(format!("{refused:#}").contains("I/N"), "{refused:#}");
        }
    }

    #[test]
    fn what_is_cut_off_or_to_be_tried_again_is_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        let kept = "{\"file\":\"a\",\"detections\":[]}\n{\"file\":\"b\",\"error\":{\"code\":\"c\",\"message\":\"m\"}}\n";
        let retried =
            "{\"file\":\"c\",\"error\":{\"code\":null,\"message\":\"m\",\"retry\":true}}\n";
        std::fs::write(&path, format!("{kept}{retried}{{\"file\":\"d\",\"det")).unwrap();
        let results = Results::open(&path).unwrap();
        assert_eq!(["a", "b", "c", "d"].map(|name| results.has(name)), [true, true, false, false]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        let refused = Results::open(&path).err().unwrap().to_string();
        assert!(refused.contains("another process"), "{refused}");
        drop(results);
        std::fs::write(&path, "a text\n").unwrap();
        let refused = format!("{:#}", Results::open(&path).err().unwrap());
        assert!(refused.contains("line 1"), "{refused}");
    }
}
