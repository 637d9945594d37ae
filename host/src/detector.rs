//! The detector that comes with `spotter`: the one in the binary, or else the one of the checkout in which the binary
//! was compiled.

use crate::toolchain::ToolchainOptions;

/// The bytes of the baked component.
///
/// # Errors
/// If the detector in the binary cannot be decompressed.
#[cfg(embedded_detector)]
pub fn component(_: ToolchainOptions) -> anyhow::Result<Vec<u8>> {
    decompressed(include_bytes!(concat!(env!("OUT_DIR"), "/detector.wasm.gz")))
}

/// The bytes of the core module, before a model is baked into it.
///
/// # Errors
/// If the module in the binary cannot be decompressed.
#[cfg(embedded_detector)]
pub fn module(_: ToolchainOptions) -> anyhow::Result<Vec<u8>> {
    decompressed(include_bytes!(concat!(env!("OUT_DIR"), "/module.wasm.gz")))
}

#[cfg(embedded_detector)]
fn decompressed(compressed: &[u8]) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;

    use anyhow::Context;

    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(compressed)
        .read_to_end(&mut bytes)
        .context("the detector in this binary is damaged")?;
    Ok(bytes)
}

/// The bytes of the checkout's component. Builds it first if necessary.
///
/// # Errors
/// If the checkout no longer exists, or the build fails.
#[cfg(not(embedded_detector))]
pub fn component(toolchain: ToolchainOptions) -> anyhow::Result<Vec<u8>> {
    read(&built(toolchain)?.source)
}

/// The bytes of the checkout's core module, before a model is baked into it. Builds it first if necessary.
///
/// # Errors
/// If the checkout no longer exists, or the build fails.
#[cfg(not(embedded_detector))]
pub fn module(toolchain: ToolchainOptions) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context;

    read(&built(toolchain)?.bake.context("the checkout's detector has no module")?.module)
}

#[cfg(not(embedded_detector))]
fn built(toolchain: ToolchainOptions) -> anyhow::Result<spotter_app::Component> {
    use std::path::Path;

    use anyhow::{Context, ensure};

    use spotter_app::{App, LoadOptions};

    const CHECKOUT_MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../spin.toml");
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

#[cfg(not(embedded_detector))]
fn read(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    use anyhow::Context;

    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
