//! The detector that comes with `spotter`: the one that the program's file carries, or else the one of the checkout in
//! which the program was compiled.

use std::path::Path;

use anyhow::{Context, ensure};
use spotter_app::{App, Component, LoadOptions};
use spotter_registry::standalone::payload::{self, Part};

use crate::toolchain::ToolchainOptions;

/// The manifest of the checkout.
const CHECKOUT_MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../spin.toml");

/// The bytes of the baked component. Builds the checkout's first if necessary.
///
/// # Errors
/// If the program carries a damaged one, or it carries none and the checkout does not exist or cannot be built.
pub fn component(toolchain: ToolchainOptions) -> anyhow::Result<Vec<u8>> {
    match payload::read(Part::Component)? {
        Some(component) => Ok(component),
        None => read(&built(toolchain)?.source),
    }
}

/// The bytes of the core module, before a model is baked into it. Builds the checkout's first if necessary.
///
/// # Errors
/// As [`component`].
pub fn module(toolchain: ToolchainOptions) -> anyhow::Result<Vec<u8>> {
    match payload::read(Part::Module)? {
        Some(module) => Ok(module),
        None => {
            read(&built(toolchain)?.bake.context("the checkout's detector has no module")?.module)
        }
    }
}

/// The checkout's detector.
fn built(toolchain: ToolchainOptions) -> anyhow::Result<Component> {
    let manifest = Path::new(CHECKOUT_MANIFEST);
    ensure!(
        manifest.exists(),
        "this `spotter` carries no detector, and the checkout it was compiled in no longer exists \
         ({CHECKOUT_MANIFEST}); install it again, or use a release"
    );
    let mut app = App::load(manifest, &LoadOptions::default())?;
    crate::build::build(&app, toolchain)?;
    app.components.remove("detector").context("the checkout has no detector")
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
