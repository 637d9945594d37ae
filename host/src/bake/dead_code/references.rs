//! Which functions and data of a linked module refer to which others, by the linker's own relocations.
//!
//! `wasm-ld --emit-relocs` leaves in the module where each address is, in code and in data, and which symbol it is the
//! address of (<https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md>).

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context, bail, ensure};
use wasmparser::{
    BinaryReader, CustomSectionReader, KnownCustom, Linking, Parser, Payload, RelocationEntry,
    RelocationType, SymbolFlags, SymbolInfo,
};

use super::layout::Layout;

/// A function, by its index in the module, or a piece of data, by its index in [`References::data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Symbol {
    Function(u32),
    Data(usize),
}

/// What a relocation can refer to.
#[derive(Clone)]
enum Target {
    Symbol(Symbol),
    /// What is neither data nor a function, or is not defined, or a bound of the memory.
    Nothing,
    /// An address that the linker made up: it may stand for any data.
    Unknown(String),
}

/// The addresses that a linker makes up for bounds of the memory, where no data is.
const MEMORY_BOUNDS: [&str; 8] = [
    "__data_end",
    "__dso_handle",
    "__global_base",
    "__heap_base",
    "__heap_end",
    "__memory_base",
    "__stack_high",
    "__stack_low",
];

enum Section {
    Code,
    Data,
}

/// What a linked module says about its functions and data.
pub(super) struct References {
    pub(super) layout: Layout,
    /// The function in which the linker calls all constructors.
    pub(super) constructors: Option<u32>,
    /// The addresses of each piece of data, in ascending order. Symbols that overlap are one piece.
    pub(super) data: Vec<Range<usize>>,
    /// What each symbol refers to.
    pub(super) targets: HashMap<Symbol, Vec<Symbol>>,
    /// The places in the module that hold a function's index in the table.
    pub(super) table_indices: Vec<TableIndex>,
}

/// A function's index in the table, at an offset in the module.
#[derive(Clone, Copy)]
pub(super) enum TableIndex {
    /// In code: a signed LEB128 number, padded to five bytes.
    Leb128(usize),
    /// In data: four bytes.
    Word(usize),
}

impl References {
    /// Reads a module.
    ///
    /// # Errors
    /// If the module was linked without `--emit-relocs`, or if anything in it is not as Rust's linker writes static
    /// modules, so that references could be missed.
    pub(super) fn from_module(module: &[u8]) -> anyhow::Result<Self> {
        let mut layout = Layout::default();
        let mut symbols = Vec::new();
        let mut relocations = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload.context("malformed module")? {
                Payload::CustomSection(section) => match section.name() {
                    "linking" => symbols = symbol_table(&section)?,
                    "reloc.CODE" => relocations.push((Section::Code, entries(&section)?)),
                    "reloc.DATA" => relocations.push((Section::Data, entries(&section)?)),
                    _ => {}
                },
                other => layout.read(other)?,
            }
        }
        ensure!(!relocations.is_empty(), "the module was linked without `--emit-relocs`");
        let calls = layout.calls.iter().map(|(function, targets)| {
            let targets = targets.iter().map(|target| Symbol::Function(*target)).collect();
            (Symbol::Function(*function), targets)
        });
        let mut references = Self {
            targets: calls.collect(),
            constructors: None,
            data: Vec::new(),
            table_indices: Vec::new(),
            layout,
        };
        let symbols = references.place(&symbols)?;
        for (section, entries) in &relocations {
            for entry in entries {
                let target = symbols.get(entry.index as usize);
                let target = target.context("a relocation has no symbol")?.clone();
                match section {
                    Section::Code => references.read_code_relocation(module, entry, target)?,
                    Section::Data => references.read_data_relocation(entry, target)?,
                }
            }
        }
        Ok(references)
    }

    /// Finds the addresses of data symbols. Returns what each symbol in the symbol table is.
    fn place(&mut self, symbols: &[SymbolInfo<'_>]) -> anyhow::Result<Vec<Target>> {
        let address = |symbol: &SymbolInfo<'_>| -> anyhow::Result<Option<Range<usize>>> {
            let SymbolInfo::Data { symbol: Some(symbol), flags, .. } = symbol else {
                return Ok(None);
            };
            if flags.contains(SymbolFlags::ABSOLUTE) {
                return Ok(None);
            }
            let segment = self.layout.segments.get(symbol.index as usize);
            let (address, _) = segment.context("a symbol's data segment is not in the module")?;
            let start = address + symbol.offset as usize;
            Ok(Some(start..start + symbol.size as usize))
        };
        let addresses = symbols.iter().map(address).collect::<anyhow::Result<Vec<_>>>()?;
        let mut data: Vec<_> = addresses.iter().flatten().cloned().collect();
        data.sort_by_key(|range| (range.start, range.end));
        data.dedup_by(|next, range| {
            let overlaps = next.start < range.end || next.start == range.start;
            if overlaps {
                range.end = range.end.max(next.end);
            }
            overlaps
        });
        self.data = data;
        self.constructors = symbols.iter().find_map(|symbol| match symbol {
            SymbolInfo::Func { index, name: Some("__wasm_call_ctors"), .. } => Some(*index),
            _ => None,
        });
        let symbols = symbols.iter().zip(addresses);
        let symbols = symbols.map(|(symbol, address)| match (symbol, address) {
            (SymbolInfo::Func { index, .. }, _) => Target::Symbol(Symbol::Function(*index)),
            (_, Some(range)) => self.data_at(range.start).map_or(Target::Nothing, Target::Symbol),
            (SymbolInfo::Data { name, symbol: Some(_), .. }, None)
                if !MEMORY_BOUNDS.contains(name) =>
            {
                Target::Unknown((*name).to_owned())
            }
            _ => Target::Nothing,
        });
        Ok(symbols.collect())
    }

    /// The data at an address.
    pub(super) fn data_at(&self, address: usize) -> Option<Symbol> {
        // Most words that are asked for are other numbers.
        if address < self.data.first()?.start || address > self.data.last()?.end {
            return None;
        }
        let index = self.data.partition_point(|range| range.start <= address).checked_sub(1)?;
        let range = &self.data[index];
        (address < range.end || address == range.start).then_some(Symbol::Data(index))
    }

    fn read_code_relocation(
        &mut self,
        module: &[u8],
        entry: &RelocationEntry,
        target: Target,
    ) -> anyhow::Result<()> {
        use RelocationType::*;
        let offset = self.layout.code_start + entry.offset as usize;
        match (entry.ty, &target) {
            (TypeIndexLeb | EventIndexLeb | TableNumberLeb, _) => return Ok(()),
            (GlobalIndexLeb, Target::Nothing) => return Ok(()),
            (FunctionIndexLeb, Target::Symbol(Symbol::Function(function))) => {
                let mut number = BinaryReader::new(module.get(offset..).unwrap_or_default(), 0);
                ensure!(
                    number.read_var_u32().ok() == Some(*function),
                    "the relocations are not those of this code"
                );
                return Ok(());
            }
            (MemoryAddrLeb | MemoryAddrSleb, _) => {}
            (TableIndexSleb, _) => self.table_indices.push(TableIndex::Leb128(offset)),
            (other, _) => bail!("the code has relocations of the kind {other:?}"),
        }
        let body = self.layout.bodies.partition_point(|body| body.start <= offset).checked_sub(1);
        let body = body.filter(|body| offset < self.layout.bodies[*body].end);
        let body = body.context("a relocation is outside of the code")?;
        self.add(Symbol::Function(self.layout.imports + u32::try_from(body)?), target)
    }

    fn read_data_relocation(
        &mut self,
        entry: &RelocationEntry,
        target: Target,
    ) -> anyhow::Result<()> {
        let offset = self.layout.data_start + entry.offset as usize;
        match entry.ty {
            RelocationType::MemoryAddrI32 => {}
            RelocationType::TableIndexI32 => self.table_indices.push(TableIndex::Word(offset)),
            other => bail!("the data has relocations of the kind {other:?}"),
        }
        let segment = self.layout.segments.iter().find(|(_, bytes)| bytes.contains(&offset));
        let (address, bytes) = segment.context("a relocation is outside of the data")?;
        let data = self.data_at(address + offset - bytes.start);
        self.add(data.context("a relocation is in data that belongs to no symbol")?, target)
    }

    fn add(&mut self, source: Symbol, target: Target) -> anyhow::Result<()> {
        match target {
            Target::Symbol(target) => self.targets.entry(source).or_default().push(target),
            Target::Nothing => {}
            Target::Unknown(name) => bail!("the module refers to the address `{name}`"),
        }
        Ok(())
    }
}

fn entries(section: &CustomSectionReader<'_>) -> anyhow::Result<Vec<RelocationEntry>> {
    let KnownCustom::Reloc(reader) = section.as_known() else {
        bail!("the section `{}` is malformed", section.name())
    };
    Ok(reader.entries().into_iter().collect::<Result<_, _>>()?)
}

fn symbol_table<'a>(section: &CustomSectionReader<'a>) -> anyhow::Result<Vec<SymbolInfo<'a>>> {
    let KnownCustom::Linking(linking) = section.as_known() else {
        bail!("the section `linking` is malformed")
    };
    for subsection in linking {
        if let Linking::SymbolTable(symbols) = subsection? {
            return Ok(symbols.into_iter().collect::<Result<_, _>>()?);
        }
    }
    Ok(Vec::new())
}
