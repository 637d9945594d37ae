//! The smallest files that pass for static programs, for images that no test runs.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The ELF header of a program without segments, for the machine with this number.
fn header(machine: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (bytes[16], bytes[18], bytes[20]) = (2, machine, 1);
    (bytes[52], bytes[54]) = (64, 56);
    bytes
}

/// For x86-64.
pub fn amd64() -> Vec<u8> {
    header(62)
}

/// For AArch64.
pub fn arm64() -> Vec<u8> {
    header(183)
}

/// A program with a detector after its end, as `.ci/release` makes it: the two files in gzip format, and a trailer.
pub fn carrying(program: &[u8], component: &[u8], module: &[u8]) -> Vec<u8> {
    let zipped = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let (component, module) = (zipped(component), zipped(module));
    let trailer = format!("spotter-detector {:020} {:020}\n", component.len(), module.len());
    [program, &component, &module, trailer.as_bytes()].concat()
}
