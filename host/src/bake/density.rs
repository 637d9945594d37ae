//! Whether wasmtime will map a snapshot's memory copy-on-write, or copy it on every instantiation.
//!
//! wasmtime makes an image of a memory's initial contents only if the initialised range is small, or if at least
//! half of it is data (`try_static_init` in wasmtime-environ). A sparse snapshot of a large model would cost
//! milliseconds for each instance.

use std::fmt;

use anyhow::Context;
use wasmparser::{ConstExpr, DataKind, Operator, Parser, Payload};

/// wasmtime's default `memory_guaranteed_dense_image_size`: a smaller range always qualifies.
const GUARANTEED_DENSE_IMAGE_BYTES: u64 = 16 << 20;

/// How a module's first memory is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Density {
    /// From the first initialised byte to the last.
    pub range: u64,
    /// Bytes of data in it.
    pub data: u64,
    /// Initial size of the memory.
    pub memory: u64,
}

impl Density {
    /// Computes it from a core module's data segments.
    ///
    /// # Errors
    /// If the module is malformed.
    pub fn from_module(module: &[u8]) -> anyhow::Result<Self> {
        let (mut first, mut last, mut data, mut memory) = (u64::MAX, 0, 0, 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload.context("malformed module")? {
                Payload::MemorySection(memories) => {
                    for each in memories {
                        memory = each.context("malformed memory")?.initial << 16;
                    }
                }
                Payload::DataSection(segments) => {
                    for segment in segments {
                        let segment = segment.context("malformed data segment")?;
                        let Some(offset) = constant_offset(&segment.kind) else { continue };
                        let (offset, length) = (offset as u64, segment.data.len() as u64);
                        first = first.min(offset);
                        last = last.max(offset + length);
                        data += length;
                    }
                }
                _ => {}
            }
        }
        Ok(Self { range: last.saturating_sub(first), data, memory })
    }

    /// Whether wasmtime's defaults map it copy-on-write.
    pub fn is_mapped(&self) -> bool {
        self.range < GUARANTEED_DENSE_IMAGE_BYTES || self.range < self.data.saturating_mul(2)
    }

    /// The data's share of the range, in percent.
    pub fn percent(&self) -> u64 {
        self.data * 100 / self.range.max(1)
    }
}

impl fmt::Display for Density {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            formatter,
            "snapshot: {:.1} MiB of data in a range of {:.1} MiB ({} % dense), memory {:.1} MiB; {}",
            mebibytes(self.data),
            mebibytes(self.range),
            self.percent(),
            mebibytes(self.memory),
            if self.is_mapped() {
                "wasmtime maps it copy-on-write"
            } else {
                "too sparse: wasmtime would copy it for every instance"
            }
        )
    }
}

/// The address of an active data segment, if it is a constant.
pub(super) fn constant_offset(kind: &DataKind<'_>) -> Option<usize> {
    let DataKind::Active { offset_expr, .. } = kind else { return None };
    usize::try_from(constant(offset_expr)?).ok()
}

/// The value of an expression that is a constant of 32 bits.
pub(super) fn constant(expression: &ConstExpr<'_>) -> Option<u32> {
    match expression.get_operators_reader().read().ok()? {
        Operator::I32Const { value } => Some(value.cast_unsigned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Density;
    use wasm_encoder::{ConstExpr, DataSection, MemorySection, MemoryType, Module};

    /// A module whose memory has one mebibyte of data at each of these offsets, in mebibytes.
    fn module(mebibytes: &[i32]) -> Vec<u8> {
        let mut memories = MemorySection::new();
        let memory = MemoryType {
            minimum: 1024,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        };
        memories.memory(memory);
        let mut data = DataSection::new();
        for mebibyte in mebibytes {
            data.active(0, &ConstExpr::i32_const(mebibyte << 20), vec![1; 1 << 20]);
        }
        Module::new().section(&memories).section(&data).clone().finish()
    }

    #[test]
    fn a_dense_or_a_small_range_is_mapped_and_a_sparse_one_is_not() {
        let cases: [(&[i32], u64, bool); 4] = [
            (&[0, 1, 2], 3, true),
            // Sparse, but small enough for wasmtime to map it anyway.
            (&[0, 10], 11, true),
            (&[0, 4, 8, 12, 16, 20], 21, false),
            (&[1, 40], 40, false),
        ];
        for (mebibytes, range, is_mapped) in cases {
            let density = Density::from_module(&module(mebibytes)).unwrap();
            assert_eq!(density.range, range << 20, "{density}");
            assert_eq!(density.data, (mebibytes.len() as u64) << 20, "{density}");
            assert_eq!(density.memory, 64 << 20, "{density}");
            assert_eq!(density.is_mapped(), is_mapped, "{density}");
        }
        assert!(Density::from_module(b"nonsense").is_err());
    }
}
