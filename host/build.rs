//! Embeds a detector into the binary, if `SPOTTER_DETECTOR` names a baked component and `SPOTTER_DETECTOR_MODULE` the
//! core module that it was baked from.

use std::fs::File;
use std::io::{BufReader, copy};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SPOTTER_DETECTOR");
    println!("cargo::rustc-check-cfg=cfg(embedded_detector)");
    println!("cargo::rerun-if-env-changed=SPOTTER_DETECTOR_MODULE");
    let (Some(component), Some(module), Some(folder)) = (
        std::env::var_os("SPOTTER_DETECTOR"),
        std::env::var_os("SPOTTER_DETECTOR_MODULE"),
        std::env::var_os("OUT_DIR"),
    ) else {
        return Ok(());
    };
    compress(Path::new(&component), &Path::new(&folder).join("detector.wasm.gz"))?;
    compress(Path::new(&module), &Path::new(&folder).join("module.wasm.gz"))?;
    println!("cargo::rustc-cfg=embedded_detector");
    Ok(())
}

fn compress(file: &Path, target: &Path) -> std::io::Result<()> {
    println!("cargo::rerun-if-changed={}", file.display());
    let mut encoder = GzEncoder::new(File::create(target)?, Compression::best());
    copy(&mut BufReader::new(File::open(file)?), &mut encoder)?;
    encoder.finish().map(drop)
}
