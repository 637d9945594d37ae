//! How much memory the compiler needs for a component.

use std::path::Path;

use anyhow::Context;
use wasmparser::{Parser, Payload};

use super::code_cache::mapped;

/// An upper bound of the memory that [`code_cache::compile`](super::code_cache::compile) takes for the component in a
/// file, in bytes.
///
/// # Errors
/// If the file cannot be read, or is malformed.
pub fn needed(source: &Path) -> anyhow::Result<u64> {
    let component = mapped(source)?;
    let mut code = 0;
    for payload in Parser::new(0).parse_all(&component) {
        let malformed = || format!("{} is malformed", source.display());
        if let Payload::CodeSectionStart { size, .. } = payload.with_context(malformed)? {
            code += u64::from(size);
        }
    }
    Ok(bytes_for(code, component.len() as u64 - code))
}

/// The memory for this much WebAssembly code, and this much of everything else. wasmtime keeps each function's machine
/// code, and what it knows about it, until it links them, and copies the rest twice.
const fn bytes_for(code: u64, other: u64) -> u64 {
    (16 << 20) + code.saturating_mul(39) + other.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::{bytes_for, needed};

    #[test]
    fn the_bound_holds_for_what_was_measured_and_is_not_much_higher() {
        const MIB: u64 = 1 << 20;
        // The detector, without a network, and with all the code that only baking needs.
        for (code, other, measured) in [
            (3_458_341, 19_884_169, 151 * MIB),
            (1_427_078, 748_723, 49 * MIB),
            (12_880_960, 20_048_557, 511 * MIB),
        ] {
            let bound = bytes_for(code, other);
            assert!(bound >= measured, "{} for {} MiB", bound / MIB, measured / MIB);
            assert!(bound < measured * 3 / 2, "{} for {} MiB", bound / MIB, measured / MIB);
        }
    }

    #[test]
    fn the_code_of_all_modules_counts() {
        let component = "(component (core module (func nop)) (core module (func nop)))";
        let bytes = wat::parse_str(component).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        // After its count, each code section has a body of three bytes, with its length.
        let code = 2 * 4;
        let expected = bytes_for(code, bytes.len() as u64 - code);
        assert_eq!(needed(file.path()).unwrap(), expected);
        std::fs::write(file.path(), "no component").unwrap();
        assert!(needed(file.path()).is_err());
    }
}
