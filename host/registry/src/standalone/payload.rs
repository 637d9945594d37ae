//! The detector that a released `spotter` carries: two files in gzip format after the end of the program, where no loader
//! looks, and a trailer with their lengths. `.ci/release` appends them. An image with the program leaves them out.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use flate2::read::GzDecoder;

/// The trailer: this text, then the lengths of the component and of the core module in bytes, as decimal numbers of
/// twenty digits, each after a space, and the end of the line.
const TRAILER_START: &str = "spotter-detector";
const TRAILER_BYTES: usize = TRAILER_START.len() + 2 * 21 + 1;

/// One of the files of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The baked component.
    Component,
    /// The core module, before a model is baked into it.
    Module,
}

/// The lengths of the files after a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Payload {
    component: u64,
    module: u64,
}

impl Payload {
    /// Parses the end of a file; `None` if it is no trailer.
    fn from_trailer(end: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(end).ok()?.strip_suffix('\n')?;
        let mut fields = text.split(' ');
        if fields.next() != Some(TRAILER_START) {
            return None;
        }
        let mut length = || fields.next()?.parse().ok();
        Some(Self { component: length()?, module: length()? })
    }

    /// The length of the program in a file of this length.
    fn program_length(self, file: u64) -> Option<u64> {
        let payload = self.component.checked_add(self.module)?;
        file.checked_sub(TRAILER_BYTES as u64)?.checked_sub(payload)
    }
}

/// The program without the payload.
pub(super) fn without(mut program: Vec<u8>) -> Vec<u8> {
    let trailer = program.last_chunk::<TRAILER_BYTES>();
    let payload = trailer.and_then(|trailer| Payload::from_trailer(trailer));
    let length = payload.and_then(|payload| payload.program_length(program.len() as u64));
    if let Some(length) = length.and_then(|length| usize::try_from(length).ok()) {
        program.truncate(length);
    }
    program
}

/// A file of this program's payload; `None` if the program has none.
///
/// # Errors
/// If the program's file cannot be read, or its payload is damaged.
pub fn read(part: Part) -> anyhow::Result<Option<Vec<u8>>> {
    let path = this_program().context("cannot find this program's own file")?;
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    read_from(file, part).with_context(|| format!("cannot read the detector in {}", path.display()))
}

/// This program's file. Where `/proc` is not mounted, it is the path by which the program was called.
fn this_program() -> Option<PathBuf> {
    let called = || std::env::args_os().next().map(PathBuf::from);
    std::env::current_exe().ok().or_else(called)
}

fn read_from(mut file: File, part: Part) -> anyhow::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    let Some(trailer_start) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER_BYTES];
    file.seek(SeekFrom::Start(trailer_start))?;
    file.read_exact(&mut trailer)?;
    let Some(payload) = Payload::from_trailer(&trailer) else { return Ok(None) };
    let Some(program) = payload.program_length(length) else {
        bail!("it is longer than the file");
    };
    let (start, length) = match part {
        Part::Component => (program, payload.component),
        Part::Module => (program + payload.component, payload.module),
    };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    GzDecoder::new(file.take(length)).read_to_end(&mut bytes).context("it is damaged")?;
    ensure!(bytes.starts_with(b"\0asm"), "it is not WebAssembly");
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::{Part, TRAILER_BYTES, read_from, without};

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn program(component: &[u8], module: &[u8]) -> Vec<u8> {
        let trailer = format!("spotter-detector {:020} {:020}\n", component.len(), module.len());
        assert_eq!(trailer.len(), TRAILER_BYTES);
        [b"\x7fELF program", component, module, trailer.as_bytes()].concat()
    }

    fn read(file: &[u8], part: Part) -> anyhow::Result<Option<Vec<u8>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, file).unwrap();
        read_from(File::open(path).unwrap(), part)
    }

    #[test]
    fn both_files_are_read_and_the_program_is_left_without_them() {
        let file = program(&zipped(b"\0asm component"), &zipped(b"\0asm module"));
        assert_eq!(read(&file, Part::Component).unwrap().unwrap(), b"\0asm component");
        assert_eq!(read(&file, Part::Module).unwrap().unwrap(), b"\0asm module");
        assert_eq!(without(file), b"\x7fELF program");
    }

    #[test]
    fn a_program_without_a_payload_is_left_as_it_is_and_a_damaged_one_is_an_error() {
        for file in [&b""[..], b"\x7fELF program", &[b'a'; 2 * TRAILER_BYTES]] {
            assert_eq!(read(file, Part::Component).unwrap(), None);
            assert_eq!(without(file.to_vec()), file);
        }
        let damaged = program(b"no gzip", &zipped(b"no module"));
        assert!(read(&damaged, Part::Component).is_err());
        assert!(read(&damaged, Part::Module).is_err());
        let mut longer = program(b"", b"");
        let start = longer.len() - TRAILER_BYTES;
        let trailer = format!("spotter-detector {:020} {:020}\n", u64::MAX, 1);
        longer[start..].copy_from_slice(trailer.as_bytes());
        assert!(read(&longer, Part::Component).is_err());
        assert_eq!(without(longer.clone()), longer);
    }
}
