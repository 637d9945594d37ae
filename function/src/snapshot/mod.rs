//! The entry that `spotter bake` calls before it takes the snapshot: it loads the model from the
//! files the host has put at `/model`, so that an instance begins with it in memory.
//!
//! It is called in two fresh instances, one after the other: see [`heaps`]. What the first finds
//! out goes to the second through the file [`SURVIVORS`].

mod heaps;

use std::fs;
use std::sync::OnceLock;

use anyhow::Context;

use crate::model::{Model, ModelFiles};
use heaps::{Survivors, TwoHeaps};

#[global_allocator]
static HEAPS: TwoHeaps = TwoHeaps::new();

static MODEL: OnceLock<Model> = OnceLock::new();

/// What the first load leaves for the second.
const SURVIVORS: &str = "/bake/survivors";

/// The baked model; `None` in a component that was never baked.
pub(crate) fn model() -> Option<&'static Model> {
    MODEL.get()
}

/// Loads the model. A failure ends the bake with the reason on standard error.
#[allow(unsafe_code, reason = "an export needs its name; nothing here is unsafe to call")]
#[unsafe(export_name = "wizer-initialize")]
extern "C" fn initialise() {
    let survivors = fs::read(SURVIVORS).ok().and_then(|bytes| Survivors::from_bytes(&bytes));
    match survivors {
        None => {
            let survivors = HEAPS.record(load_or_exit);
            or_exit(fs::write(SURVIVORS, survivors.to_bytes()).context(SURVIVORS));
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

fn or_exit(result: anyhow::Result<()>) {
    if let Err(error) = result {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

fn load() -> anyhow::Result<()> {
    let text =
        |name: &str| fs::read_to_string(format!("/model/{name}")).with_context(|| name.to_owned());
    let (manifest, labels) = (text("model.toml")?, text("labels.txt")?);
    let network = fs::read("/model/model.onnx").context("model.onnx")?;
    let files = ModelFiles { manifest: &manifest, labels: &labels, network: &network };
    let _ = MODEL.set(Model::load(&files)?);
    Ok(())
}
