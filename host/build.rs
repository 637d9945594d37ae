//! Embeds a baked detector into the binary, if `SPOTTER_DETECTOR` names one.

use std::fs::File;
use std::io::{BufReader, copy};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SPOTTER_DETECTOR");
    println!("cargo::rustc-check-cfg=cfg(embedded_detector)");
    let (Some(component), Some(folder)) =
        (std::env::var_os("SPOTTER_DETECTOR"), std::env::var_os("OUT_DIR"))
    else {
        return Ok(());
    };
    println!("cargo::rerun-if-changed={}", component.display());
    let mut component = BufReader::new(File::open(component)?);
    let embedded = File::create(Path::new(&folder).join("detector.wasm.gz"))?;
    let mut encoder = GzEncoder::new(embedded, Compression::best());
    copy(&mut component, &mut encoder)?;
    encoder.finish()?;
    println!("cargo::rustc-cfg=embedded_detector");
    Ok(())
}
