//! The sections of a linked module: where its functions and its data are, and which functions call which.

use std::ops::Range;

use anyhow::{Context, bail, ensure};
use wasmparser::{
    ElementItems, ElementKind, ExternalKind, FunctionBody, Operator, Payload, TypeRef,
};

use crate::bake::density::{constant, constant_offset};

/// The sections of a linked module.
#[derive(Default)]
pub(super) struct Layout {
    /// How many functions the module imports. Their indices come first.
    pub(super) imports: u32,
    /// The functions that the module exports, by name.
    pub(super) exports: Vec<(String, u32)>,
    /// The functions in the table. The first has the index `table_start`.
    pub(super) table: Vec<u32>,
    pub(super) table_start: u32,
    /// Where the body of each function is, without the imported ones.
    pub(super) bodies: Vec<Range<usize>>,
    /// Which functions each function calls. Functions that the linker itself wrote have no relocations for that.
    pub(super) calls: Vec<(u32, Vec<u32>)>,
    /// The address of each data segment, and where its bytes are in the module.
    pub(super) segments: Vec<(usize, Range<usize>)>,
    /// Where the contents of the sections start in the module.
    pub(super) code_start: usize,
    pub(super) data_start: usize,
}

impl Layout {
    /// Reads a section.
    ///
    /// # Errors
    /// If it is malformed, or not as Rust's linker writes static modules.
    pub(super) fn read(&mut self, payload: Payload<'_>) -> anyhow::Result<()> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    self.imports += u32::from(is_function(import?.ty));
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
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let is_constant = constant(&global?.init_expr).is_some();
                    ensure!(is_constant, "the module has a global that is not a number");
                }
            }
            Payload::ElementSection(elements) => {
                ensure!(elements.count() <= 1, "the module has several element segments");
                for element in elements {
                    let element = element?;
                    let (
                        ElementKind::Active { offset_expr, .. },
                        ElementItems::Functions(functions),
                    ) = (element.kind, element.items)
                    else {
                        bail!("the module's element segment is not an active list of functions");
                    };
                    self.table_start = constant(&offset_expr).context("the table has no start")?;
                    self.table = functions.into_iter().collect::<Result<_, _>>()?;
                }
            }
            Payload::CodeSectionStart { range, .. } => self.code_start = range.start,
            Payload::CodeSectionEntry(body) => {
                let function = self.defined_functions().end;
                self.bodies.push(body.range());
                self.calls.push((function, calls(&body)?));
            }
            Payload::DataSection(segments) => {
                self.data_start = segments.range().start;
                for segment in segments {
                    let segment = segment?;
                    let address = constant_offset(&segment.kind);
                    let address = address.context("a data segment has no constant address")?;
                    let bytes = segment.range.end - segment.data.len()..segment.range.end;
                    self.segments.push((address, bytes));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The functions that are not imported.
    pub(super) fn defined_functions(&self) -> Range<u32> {
        self.imports..self.imports + u32::try_from(self.bodies.len()).unwrap_or_default()
    }

    /// The function at an index in the table.
    pub(super) fn table_function(&self, index: u32) -> Option<u32> {
        self.table.get(index.checked_sub(self.table_start)? as usize).copied()
    }

    /// The address after the last data segment, where the heap begins.
    pub(super) fn heap_start(&self) -> usize {
        let ends = self.segments.iter().map(|(address, bytes)| address + bytes.len());
        ends.max().unwrap_or_default()
    }
}

/// Whether an import is a function.
pub(super) fn is_function(import: TypeRef) -> bool {
    matches!(import, TypeRef::Func(_) | TypeRef::FuncExact(_))
}

/// The functions that a function's code names.
fn calls(body: &FunctionBody<'_>) -> anyhow::Result<Vec<u32>> {
    let mut calls = Vec::new();
    for operator in body.get_operators_reader()? {
        if let Operator::Call { function_index }
        | Operator::ReturnCall { function_index }
        | Operator::RefFunc { function_index } = operator?
        {
            calls.push(function_index);
        }
    }
    Ok(calls)
}
