//! Any layers of an image, unpacked: nothing outside of the application's folder is written, no layer is changed, and
//! what is unpacked can be read as an application or is refused.
//!
//! The parts of an input are separated by lines that say `---`. The first is the locked application; if it is empty,
//! the image has components only. The others are layers with the digests `sha256:1`, `sha256:2`, ….

#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use spotter_app::{App, LoadOptions};
use spotter_registry::layer::Layer;
use spotter_registry::unpack;

const LOCKED: &str = "application/vnd.fermyon.spin.application.v1+config";
const COMPONENT: &str = "application/vnd.wasm.content.layer.v1+wasm";

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("a folder");
    let (fetched, unpacked) = (folder.path().join("layers"), folder.path().join("unpacked"));
    std::fs::create_dir(&fetched).expect("a folder");
    let mut layers = Vec::new();
    let parts = parts(bytes);
    for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
        let file = fetched.join(number.to_string());
        std::fs::write(&file, part).expect("a file");
        let media_type = if number == 0 { LOCKED } else { COMPONENT }.to_owned();
        layers.push(Layer { media_type, digest: format!("sha256:{number}"), file });
    }
    let outcome = unpack::unpack(&layers, &unpacked);
    assert_eq!(names(folder.path()), ["layers", "unpacked"].map(str::to_owned).into());
    assert_eq!(names(&fetched).len(), layers.len());
    for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
        assert_eq!(&std::fs::read(fetched.join(number.to_string())).expect("a layer"), part);
    }
    assert_eq!(outcome.is_ok(), unpacked.join("spin.toml").exists());
    if outcome.is_ok() {
        let _ = App::load(&unpacked, &LoadOptions::default());
    }
});

fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    const SEPARATOR: &[u8] = b"\n---\n";
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}
