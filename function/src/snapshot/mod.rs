//! The function that `spotter bake` calls before it takes the snapshot. It loads the model that the host sends,
//! so that instances start with it in memory.
//!
//! `spotter bake` calls it in two fresh instances, one after the other: see [`heaps`]. Standard input has four blocks,
//! each preceded by its length (8 bytes, little-endian): the live blocks that the first instance recorded, then
//! `model.toml`, `labels.txt` and `model.onnx`. If the host runs the network, the function does not read `model.onnx`.
//! In the first instance, the first block is empty, and the function writes the live blocks to standard output. The
//! function uses no files, so the snapshot contains no file-system metadata (times, inodes), and the same model gives
//! the same bytes everywhere.

mod heaps;

use std::io::{self, Read, Write};
use std::sync::OnceLock;

use anyhow::Context;

use crate::model::{Model, ModelFiles};
use heaps::{LiveBlocks, SnapshotAllocator};

#[global_allocator]
static ALLOCATOR: SnapshotAllocator = SnapshotAllocator::new();

static BAKED_MODEL: OnceLock<Model> = OnceLock::new();

/// The baked model; `None` in a component that was never baked.
pub(crate) fn model() -> Option<&'static Model> {
    BAKED_MODEL.get()
}

/// Loads the model. On failure, prints the reason to standard error and exits.
#[allow(unsafe_code, reason = "an export needs its name; nothing here is unsafe to call")]
#[unsafe(export_name = "wizer-initialize")]
extern "C" fn initialise() {
    // Constructors register tract's kernels. rustup's toolchain links no `_initialize`, so nothing has run them
    // yet. If they have already run, this does nothing.
    spin_sdk::wit_bindgen::rt::run_ctors_once();
    let live_blocks = or_exit(block()).and_then(|bytes| LiveBlocks::from_bytes(&bytes));
    match live_blocks {
        None => {
            let live_blocks = ALLOCATOR.record(load_or_exit);
            or_exit(write(&live_blocks.to_bytes()).context("standard output"));
        }
        Some(live_blocks) => {
            let misplaced = ALLOCATOR.place(live_blocks, load_or_exit);
            if misplaced > 0 {
                eprintln!("{misplaced} blocks were freed in the first load, but not in this one");
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
    let (config, labels) = (text("model.toml")?, text("labels.txt")?);
    let network = if cfg!(feature = "embedded") { block()? } else { Vec::new() };
    let files = ModelFiles { config: &config, labels: &labels, network: &network };
    let _ = BAKED_MODEL.set(Model::load(&files)?);
    Ok(())
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()
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
