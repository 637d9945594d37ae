//! How much memory the compiler needs for a component.

use std::path::Path;

use anyhow::Context;
use wasmparser::{Parser, Payload};

use super::code_cache::mapped;

/// An estimate of the memory that [`code_cache::compile`](super::code_cache::compile) takes for the component in a file,
/// in bytes: somewhat more than what was measured.
///
/// # Errors
/// If the file cannot be read, or is malformed.
pub fn needed(source: &Path) -> anyhow::Result<u64> {
    let component = mapped(source)?;
    let (mut functions, mut code) = (0, 0);
    for payload in Parser::new(0).parse_all(&component) {
        let malformed = || format!("{} is malformed", source.display());
        if let Payload::CodeSectionStart { count, size, .. } = payload.with_context(malformed)? {
            functions += u64::from(count);
            code += u64::from(size);
        }
    }
    Ok(bytes_for(functions, code, component.len() as u64 - code))
}

/// The memory for this many functions, this much WebAssembly code, and this much of everything else. wasmtime keeps each
/// function's machine code, and kilobytes of what it knows about it, until it links them, and copies the rest twice.
const fn bytes_for(functions: u64, code: u64, other: u64) -> u64 {
    let kept = functions.saturating_mul(9 << 10).saturating_add(code.saturating_mul(12));
    (32_u64 << 20).saturating_add(kept).saturating_add(other.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::{bytes_for, needed};

    #[test]
    fn the_estimate_holds_for_what_was_measured_and_is_not_much_higher() {
        const MIB: u64 = 1 << 20;
        // The detector, the same with more units of compilation, without a network, and with the code that only baking
        // needs.
        for (functions, code, other, measured) in [
            (6_593, 3_404_134, 19_865_317, 150 * MIB),
            (8_565, 3_454_680, 19_936_521, 155 * MIB),
            (1_578, 1_427_078, 748_723, 49 * MIB),
            (37_062, 12_880_960, 20_048_557, 511 * MIB),
        ] {
            let estimate = bytes_for(functions, code, other);
            assert!(estimate >= measured, "{} for {} MiB", estimate / MIB, measured / MIB);
            assert!(estimate < measured * 3 / 2, "{} for {} MiB", estimate / MIB, measured / MIB);
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
        let expected = bytes_for(2, code, bytes.len() as u64 - code);
        assert_eq!(needed(file.path()).unwrap(), expected);
        std::fs::write(file.path(), "no component").unwrap();
        assert!(needed(file.path()).is_err());
    }
}
