//! A batch of small pictures, and the results that `spotter detect --resume` writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::{Rgb, RgbImage};
use serde_json::Value;

use crate::{component, root, spotter};

/// Writes so many different small pictures into a folder.
pub fn pictures(folder: &Path, number: u32) {
    for number in 0..number {
        let colour = |x: u32, y: u32| {
            let part = |value: u32| u8::try_from(value % 256).expect("a byte");
            Rgb([part(x * 4 + number), part(y * 4), part(x * y + number)])
        };
        let picture = RgbImage::from_fn(48, 48, colour);
        let path = folder.join(format!("{number:06}.png"));
        picture.save(path).expect("a picture");
    }
}

/// `spotter detect` for one shard of a folder, with its results in a file of its own.
pub fn shard(pictures: &Path, index: usize, count: usize, results: &Path) -> Command {
    component();
    let mut command = Command::new(spotter());
    command.arg("detect").arg("-r").arg(pictures).arg("--shard").arg(format!("{index}/{count}"));
    command.arg("--resume").arg(file_of(results, index)).current_dir(root());
    command
}

/// The file of a shard's results.
pub fn file_of(results: &Path, index: usize) -> PathBuf {
    results.join(format!("{index}.jsonl"))
}

/// The complete lines of a file so far; none if it does not exist.
pub fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// How often each picture has a result in the files of all shards.
pub fn counted(results: &Path, count: usize) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for line in (0..count).flat_map(|index| lines(&file_of(results, index))) {
        let name = line["file"].as_str().expect("a file").to_owned();
        *counted.entry(name).or_default() += 1;
    }
    counted
}
