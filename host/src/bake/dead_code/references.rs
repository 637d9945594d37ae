//! Which functions and data of a linked module refer to which others, by the linker's own relocations.
//!
//! `wasm-ld --emit-relocs` leaves in the module where each address is, in code and in data, and which symbol it is the
//! address of (<https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md>).

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context, bail, ensure};
use wasmparser::{
    CustomSectionReader, ElementItems, ElementKind, ExternalKind, FunctionBody, KnownCustom,
    Linking, Operator, Parser, Payload, RelocationEntry, RelocationType, SymbolInfo, TypeRef,
};

use crate::bake::density::{constant, constant_offset};

/// A function, by its index in the module, or a piece of data, by its index in [`References::data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Symbol {
    Function(u32),
    Data(usize),
}

/// What a linked module says about its functions and data.
#[derive(Default)]
pub(super) struct References {
    /// How many functions the module imports. Their indices come first.
    imports: u32,
    /// The functions that the module exports, by name.
    pub(super) exports: Vec<(String, u32)>,
    /// The function in which the linker calls all constructors.
    pub(super) constructors: Option<u32>,
    /// The addresses of each piece of data, in ascending order. Symbols that overlap are one piece.
    pub(super) data: Vec<Range<usize>>,
    /// What each symbol refers to.
    pub(super) targets: HashMap<Symbol, Vec<Symbol>>,
    /// The functions in the table. The first has the index `table_start`.
    pub(super) table: Vec<u32>,
    pub(super) table_start: u32,
    /// The places in the module that hold a function's index in the table.
    pub(super) table_indices: Vec<TableIndex>,
    /// Where the body of each function is, without the imported ones.
    bodies: Vec<Range<usize>>,
    /// The address of each data segment, and where its bytes are in the module.
    segments: Vec<(usize, Range<usize>)>,
    code_start: usize,
    data_start: usize,
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
    /// Reads a module. `None` if it was linked without `--emit-relocs`, or with relocations of kinds that Rust's static
    /// modules do not have.
    ///
    /// # Errors
    /// If the module is malformed, or its relocations do not fit its sections.
    pub(super) fn from_module(module: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut references = Self::default();
        let mut symbols = Vec::new();
        let mut relocations = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            match payload.context("malformed module")? {
                Payload::CustomSection(section) if section.name() == "linking" => {
                    symbols = symbol_table(&section)?;
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Reloc(reader) = section.as_known() {
                        let entries = reader.entries().into_iter();
                        let entries = entries.collect::<Result<Vec<_>, _>>();
                        relocations
                            .push((section.name(), entries.context("malformed relocations")?));
                    }
                }
                other => references.read_section(other)?,
            }
        }
        if relocations.is_empty() {
            return Ok(None);
        }
        let symbols = references.place(&symbols)?;
        for (section, entries) in &relocations {
            for entry in entries {
                let is_known = match *section {
                    "reloc.CODE" => references.read_code_relocation(&symbols, entry)?,
                    "reloc.DATA" => references.read_data_relocation(&symbols, entry)?,
                    _ => true,
                };
                if !is_known {
                    return Ok(None);
                }
            }
        }
        Ok(Some(references))
    }

    fn read_section(&mut self, payload: Payload<'_>) -> anyhow::Result<()> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let is_function =
                        matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
                    self.imports += u32::from(is_function);
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        self.exports.push((export.name.to_owned(), export.index));
                    }
                }
            }
            Payload::ElementSection(elements) => {
                for element in elements {
                    let element = element?;
                    let ElementKind::Active { offset_expr, .. } = &element.kind else { continue };
                    let ElementItems::Functions(functions) = element.items else { continue };
                    ensure!(self.table.is_empty(), "the module has several element segments");
                    self.table_start = constant(offset_expr).context("the table's start")?;
                    self.table = functions.into_iter().collect::<Result<_, _>>()?;
                }
            }
            Payload::CodeSectionStart { range, .. } => self.code_start = range.start,
            Payload::CodeSectionEntry(body) => {
                let function = self.defined_functions().end;
                self.bodies.push(body.range());
                // Not by relocations, which functions that the linker itself wrote do not have.
                let calls = calls(&body)?;
                if !calls.is_empty() {
                    self.targets.insert(Symbol::Function(function), calls);
                }
            }
            Payload::DataSection(segments) => {
                self.data_start = segments.range().start;
                for segment in segments {
                    let segment = segment?;
                    let Some(address) = constant_offset(&segment.kind) else { continue };
                    let bytes = segment.range.end - segment.data.len()..segment.range.end;
                    self.segments.push((address, bytes));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Finds the addresses of data symbols. Returns what each symbol in the table is: `None` if it is neither data nor
    /// a function, or not defined.
    fn place(&mut self, symbols: &[SymbolInfo<'_>]) -> anyhow::Result<Vec<Option<Symbol>>> {
        let address = |symbol: &SymbolInfo<'_>| -> anyhow::Result<Option<Range<usize>>> {
            let SymbolInfo::Data { symbol: Some(symbol), .. } = symbol else { return Ok(None) };
            let segment = self.segments.get(symbol.index as usize).context("a symbol's segment")?;
            let start = segment.0 + symbol.offset as usize;
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
        let symbols = symbols.map(|(symbol, address)| match symbol {
            SymbolInfo::Func { index, .. } => Some(Symbol::Function(*index)),
            _ => address.and_then(|range| self.data_at(range.start)),
        });
        Ok(symbols.collect())
    }

    /// The data at an address.
    pub(super) fn data_at(&self, address: usize) -> Option<Symbol> {
        let index = self.data.partition_point(|range| range.start <= address).checked_sub(1)?;
        let range = &self.data[index];
        (address < range.end || address == range.start).then_some(Symbol::Data(index))
    }

    /// The functions that are not imported.
    pub(super) fn defined_functions(&self) -> Range<u32> {
        self.imports..self.imports + u32::try_from(self.bodies.len()).unwrap_or_default()
    }

    /// The function at an index in the table.
    pub(super) fn table_function(&self, index: u32) -> Option<Symbol> {
        let function = self.table.get(index.checked_sub(self.table_start)? as usize)?;
        Some(Symbol::Function(*function))
    }

    /// `false` if the relocation is of an unknown kind.
    fn read_code_relocation(
        &mut self,
        symbols: &[Option<Symbol>],
        entry: &RelocationEntry,
    ) -> anyhow::Result<bool> {
        use RelocationType::*;
        let offset = self.code_start + entry.offset as usize;
        match entry.ty {
            FunctionIndexLeb | TypeIndexLeb | GlobalIndexLeb | EventIndexLeb | TableNumberLeb => {
                return Ok(true);
            }
            MemoryAddrLeb | MemoryAddrSleb => {}
            TableIndexSleb => self.table_indices.push(TableIndex::Leb128(offset)),
            _ => return Ok(false),
        }
        let body = self.bodies.partition_point(|body| body.start <= offset).checked_sub(1);
        let body = body.filter(|body| offset < self.bodies[*body].end);
        let function = self.imports + u32::try_from(body.context("a relocation outside of code")?)?;
        self.add(Symbol::Function(function), symbols, entry)
    }

    /// `false` if the relocation is of an unknown kind.
    fn read_data_relocation(
        &mut self,
        symbols: &[Option<Symbol>],
        entry: &RelocationEntry,
    ) -> anyhow::Result<bool> {
        let offset = self.data_start + entry.offset as usize;
        match entry.ty {
            RelocationType::MemoryAddrI32 => {}
            RelocationType::TableIndexI32 => self.table_indices.push(TableIndex::Word(offset)),
            _ => return Ok(false),
        }
        let segment = self.segments.iter().find(|(_, bytes)| bytes.contains(&offset));
        let (address, bytes) = segment.context("a relocation outside of data")?;
        let Some(data) = self.data_at(address + offset - bytes.start) else {
            bail!("a relocation in data that belongs to no symbol");
        };
        self.add(data, symbols, entry)
    }

    fn add(
        &mut self,
        source: Symbol,
        symbols: &[Option<Symbol>],
        entry: &RelocationEntry,
    ) -> anyhow::Result<bool> {
        let target = symbols.get(entry.index as usize).context("a relocation's symbol")?;
        self.targets.entry(source).or_default().extend(target);
        Ok(true)
    }
}

/// The functions that a function's code names.
fn calls(body: &FunctionBody<'_>) -> anyhow::Result<Vec<Symbol>> {
    let mut calls = Vec::new();
    for operator in body.get_operators_reader()? {
        if let Operator::Call { function_index }
        | Operator::ReturnCall { function_index }
        | Operator::RefFunc { function_index } = operator?
        {
            calls.push(Symbol::Function(function_index));
        }
    }
    Ok(calls)
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
