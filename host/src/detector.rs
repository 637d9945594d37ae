//! The detector that comes with `spotter`: a baked component in the binary, or else the one of the checkout in which
//! the binary was compiled.

/// The bytes of the baked component.
///
/// # Errors
/// If the detector in the binary cannot be decompressed.
#[cfg(embedded_detector)]
pub fn component(_: crate::toolchain::Request) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;

    use anyhow::Context;

    const COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/detector.wasm.gz"));
    let mut component = Vec::new();
    flate2::read::GzDecoder::new(COMPRESSED)
        .read_to_end(&mut component)
        .context("the detector in this binary is damaged")?;
    Ok(component)
}

/// The bytes of the checkout's component. Builds it first if necessary.
///
/// # Errors
/// If the checkout no longer exists, or the build fails.
#[cfg(not(embedded_detector))]
pub fn component(toolchain: crate::toolchain::Request) -> anyhow::Result<Vec<u8>> {
    use std::path::Path;

    use anyhow::{Context, ensure};

    use spotter_app::{App, Choices};

    const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../spin.toml");
    let manifest = Path::new(MANIFEST);
    ensure!(
        manifest.exists(),
        "this `spotter` carries no detector, and the checkout it was compiled in no longer exists \
         ({MANIFEST}); install it again, or use a release"
    );
    let app = App::load(manifest, &Choices::default())?;
    crate::build::build(&app, toolchain)?;
    let detector = app.components.get("detector").context("the checkout has no detector")?;
    std::fs::read(&detector.source)
        .with_context(|| format!("cannot read {}", detector.source.display()))
}
