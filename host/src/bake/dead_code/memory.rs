//! A module's memory once its initialiser has run.

use std::ops::Range;

use anyhow::Context;
use wasmparser::{Parser, Payload};

use super::references::{References, Symbol};
use crate::bake::density::constant_offset;

/// A module's memory once its initialiser has run, next to what it was before, and to what it is if the module's table
/// starts elsewhere.
pub(super) struct Memory<'a> {
    references: &'a References,
    initial: Vec<u8>,
    current: &'a [u8],
    moved: Vec<u8>,
}

impl<'a> Memory<'a> {
    /// `moved` is the memory of a copy of the module in which no index in the table is the same.
    ///
    /// # Errors
    /// If the module is malformed, or its data does not fit into the memory.
    pub(super) fn new(
        references: &'a References,
        module: &[u8],
        current: &'a [u8],
        mut moved: Vec<u8>,
    ) -> anyhow::Result<Self> {
        // If the copy uses less memory, the rest differs from it.
        moved.resize(current.len(), 0xff);
        let mut initial = vec![0; current.len()];
        for payload in Parser::new(0).parse_all(module) {
            let Payload::DataSection(segments) = payload? else { continue };
            for segment in segments {
                let segment = segment?;
                let Some(address) = constant_offset(&segment.kind) else { continue };
                let bytes = initial.get_mut(address..address + segment.data.len());
                bytes.context("data outside of the memory")?.copy_from_slice(segment.data);
            }
        }
        Ok(Self { references, initial, current, moved })
    }

    /// What the words in a range of addresses refer to.
    ///
    /// Only words that the initialiser has changed count; relocations say what is in the others. A word that can be the
    /// address of data is taken for it, even if it is another number by chance. A word that can be a function's index in
    /// the table is taken for it if it differs in the copy.
    pub(super) fn targets(&self, range: Range<usize>) -> Vec<Symbol> {
        let range = range.start / 4 * 4..range.end.min(self.current.len());
        let mut targets = Vec::new();
        for start in range.clone().step_by(BLOCK_BYTES) {
            let block = start..range.end.min(start + BLOCK_BYTES);
            // Most of the memory is as it was.
            if self.current[block.clone()] != self.initial[block.clone()] {
                self.add_targets(block, &mut targets);
            }
        }
        targets
    }

    fn add_targets(&self, block: Range<usize>, targets: &mut Vec<Symbol>) {
        let words = words(self.current, block.clone())
            .zip(words(&self.moved, block.clone()))
            .zip(words(&self.initial, block));
        for ((word, moved), initial) in words {
            if word == initial {
                continue;
            }
            targets.extend(self.references.data_at(word as usize));
            if word != moved {
                let function = self.references.layout.table_function(word);
                targets.extend(function.map(Symbol::Function));
            }
        }
    }
}

/// The size of the blocks that are compared as a whole first.
const BLOCK_BYTES: usize = 4096;

/// The words of 32 bits in a range of a memory.
fn words(memory: &[u8], range: Range<usize>) -> impl Iterator<Item = u32> {
    let (words, _) = memory.get(range).unwrap_or_default().as_chunks();
    words.iter().map(|word| u32::from_le_bytes(*word))
}
