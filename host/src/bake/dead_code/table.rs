//! Moves the functions of a module's table to other indices.

use std::convert::Infallible;

use anyhow::{Context, ensure};
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{ConstExpr, ElementSection, Module, TableSection};
use wasmparser::{Element, ElementKind, Parser, Table};

use super::references::{References, TableIndex};

/// The module with its table behind where it was, so that no function has an index that another had before.
///
/// # Errors
/// If the module does not hold the indices that its relocations promise.
pub(super) fn moved(module: &[u8], references: &References) -> anyhow::Result<Vec<u8>> {
    let distance = u32::try_from(references.layout.table.len())?;
    let mut module = module.to_vec();
    for place in &references.table_indices {
        let bytes = place.bytes(&mut module).context("a relocation outside of the module")?;
        let index = place.read(bytes);
        // A weak function that nothing defines has the index 0.
        if index != 0 {
            let function = references.layout.table_function(index);
            ensure!(
                function.is_some(),
                "a relocation with the index {index}, which the table lacks"
            );
            place.write(bytes, index + distance);
        }
    }
    let mut moved = Module::new();
    let start = references.layout.table_start + distance;
    Mover { start, distance }.parse_core_module(&mut moved, Parser::new(0), &module)?;
    Ok(moved.finish())
}

impl TableIndex {
    fn bytes(self, module: &mut [u8]) -> Option<&mut [u8]> {
        match self {
            Self::Leb128(offset) => module.get_mut(offset..offset + 5),
            Self::Word(offset) => module.get_mut(offset..offset + 4),
        }
    }

    /// How many bits of the index are in each byte.
    fn bits(self) -> u32 {
        if matches!(self, Self::Leb128(_)) { 7 } else { 8 }
    }

    fn mask(self) -> u32 {
        (1 << self.bits()) - 1
    }

    fn read(self, bytes: &[u8]) -> u32 {
        let bits = bytes.iter().rev().map(|byte| u32::from(*byte) & self.mask());
        bits.fold(0, |index, bits| index << self.bits() | bits)
    }

    fn write(self, bytes: &mut [u8], index: u32) {
        for (number, byte) in (0..).zip(bytes) {
            // The top bit of a LEB128 byte says whether another follows, and stays.
            let [low, ..] = (index >> (self.bits() * number) & self.mask()).to_le_bytes();
            *byte = if matches!(self, Self::Leb128(_)) { *byte & 0x80 | low } else { low };
        }
    }
}

struct Mover {
    start: u32,
    distance: u32,
}

impl Reencode for Mover {
    type Error = Infallible;

    fn parse_table(
        &mut self,
        tables: &mut TableSection,
        mut table: Table<'_>,
    ) -> Result<(), reencode::Error<Infallible>> {
        table.ty.initial += u64::from(self.distance);
        table.ty.maximum = table
            .ty
            .maximum
            .map(|maximum| (maximum + u64::from(self.distance)).min(u32::MAX.into()));
        reencode::utils::parse_table(self, tables, table)
    }

    fn parse_element(
        &mut self,
        elements: &mut ElementSection,
        element: Element<'_>,
    ) -> Result<(), reencode::Error<Infallible>> {
        let ElementKind::Active { table_index, .. } = element.kind else {
            return reencode::utils::parse_element(self, elements, element);
        };
        let functions = self.element_items(element.items)?;
        elements.active(table_index, &ConstExpr::i32_const(self.start.cast_signed()), functions);
        Ok(())
    }
}
