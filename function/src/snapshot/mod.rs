//! The entry that `spotter bake` calls before it takes the snapshot: it loads the model that the host
//! sends, so that an instance begins with it in memory.
//!
//! It is called in two fresh instances, one after the other: see [`heaps`]. On standard input are
//! four blocks, each with its length before it (8 bytes, little-endian): what the first instance
//! found out (empty for the first itself, which writes it to standard output), then `model.toml`,
//! `labels.txt` and `model.onnx`. There are no files, so nothing of a file system (times, inodes) is
//! in the snapshot: the same model gives the same bytes everywhere.

mod heaps;

use std::io::{self, Read, Write};
use std::sync::OnceLock;

use anyhow::Context;

use crate::model::{Model, ModelFiles};
use heaps::{Survivors, TwoHeaps};

#[global_allocator]
static HEAPS: TwoHeaps = TwoHeaps::new();

static MODEL: OnceLock<Model> = OnceLock::new();

/// The baked model; `None` in a component that was never baked.
pub(crate) fn model() -> Option<&'static Model> {
    MODEL.get()
}

/// Loads the model. A failure ends the bake with the reason on standard error.
#[allow(unsafe_code, reason = "an export needs its name; nothing here is unsafe to call")]
#[unsafe(export_name = "wizer-initialize")]
extern "C" fn initialise() {
    // Nothing has run the constructors yet where the toolchain links no `_initialize` (rustup's), and
    // tract's kernels are registered by them. It does nothing where they ran.
    spin_sdk::wit_bindgen::rt::run_ctors_once();
    let survivors = or_exit(block()).and_then(|bytes| Survivors::from_bytes(&bytes));
    match survivors {
        None => {
            let survivors = HEAPS.record(load_or_exit);
            or_exit(io::stdout().write_all(&survivors.to_bytes()).context("standard output"));
        }
        Some(survivors) => {
            let misplaced = HEAPS.place(survivors, load_or_exit);
            if misplaced > 0 {
                eprintln!("{misplaced} blocks were not freed as they were in the first load");
            }
        }
    }
}

fn load_or_exit() {
    or_exit(load());
}

fn or_exit<T>(result: anyhow::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            eprintln!("{error:#}");
            std::process::exit(1);
        }
    }
}

fn load() -> anyhow::Result<()> {
    let text = |name: &str| String::from_utf8(block()?).with_context(|| name.to_owned());
    let (manifest, labels, network) = (text("model.toml")?, text("labels.txt")?, block()?);
    let files = ModelFiles { manifest: &manifest, labels: &labels, network: &network };
    let _ = MODEL.set(Model::load(&files)?);
    Ok(())
}

/// Reads the next block of standard input.
fn block() -> anyhow::Result<Vec<u8>> {
    let mut input = io::stdin().lock();
    let mut length = [0; 8];
    input.read_exact(&mut length).context("standard input")?;
    let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(length))?];
    input.read_exact(&mut bytes).context("standard input")?;
    Ok(bytes)
}
