//! Writes a module again, with only some of its functions.

use std::collections::HashSet;
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, Function, FunctionSection, Module};
use wasmparser::{CodeSectionReader, CustomSectionReader, FunctionSectionReader, Parser};

use super::reachable::constructors_that_have_run;
use super::references::References;

/// The module with the functions in `kept` only, and without the linker's own sections and the names of functions. In
/// the table, a function that traps takes the place of each that was removed. Constructors that have run do not run again.
///
/// # Errors
/// If the module is malformed.
pub(super) fn keep(
    module: &[u8],
    references: &References,
    kept: &HashSet<u32>,
) -> anyhow::Result<Vec<u8>> {
    let defined = references.layout.defined_functions();
    let trap = defined.clone().find(|function| !kept.contains(function));
    let is_kept = |function: &u32| kept.contains(function) || trap == Some(*function);
    let remaining: Vec<u32> = defined.clone().filter(is_kept).collect();
    let new_index = |function: u32| {
        let function = if is_kept(&function) { function } else { trap.unwrap_or(function) };
        let position = remaining.binary_search(&function).unwrap_or_else(|position| position);
        (defined.start..).nth(position).unwrap_or_default()
    };
    let new_indices = defined.clone().map(new_index).collect();
    let mut rewriter = Rewriter {
        imports: defined.start,
        remaining: &remaining,
        trap,
        constructors: constructors_that_have_run(references),
        new_indices,
    };
    let mut rewritten = Module::new();
    rewriter.parse_core_module(&mut rewritten, Parser::new(0), module)?;
    Ok(rewritten.finish())
}

struct Rewriter<'a> {
    /// How many functions the module imports. Their indices come first, and stay.
    imports: u32,
    /// The functions that stay, by their old indices, in ascending order.
    remaining: &'a [u32],
    /// The one of them that traps.
    trap: Option<u32>,
    /// The one of them that calls the constructors, which have run.
    constructors: Option<u32>,
    /// The new index of each function that is not imported.
    new_indices: Vec<u32>,
}

impl Rewriter<'_> {
    /// Those of the items, one for each function that is not imported, whose functions stay.
    fn of_remaining<T>(&self, items: impl Iterator<Item = T>) -> Vec<(u32, T)> {
        let stays = |(function, _): &(u32, T)| self.remaining.binary_search(function).is_ok();
        (self.imports..).zip(items).filter(stays).collect()
    }
}

impl Reencode for Rewriter<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Infallible>> {
        let position = function.checked_sub(self.imports);
        let new = position.and_then(|position| self.new_indices.get(position as usize));
        Ok(new.copied().unwrap_or(function))
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), reencode::Error<Infallible>> {
        for (_, function_type) in self.of_remaining(section.into_iter()) {
            functions.function(function_type?);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: CodeSectionReader<'_>,
    ) -> Result<(), reencode::Error<Infallible>> {
        for (function, body) in self.of_remaining(section.into_iter()) {
            if self.trap == Some(function) {
                let mut trap = Function::new([]);
                trap.instructions().unreachable().end();
                code.function(&trap);
            } else if self.constructors == Some(function) {
                let mut nothing = Function::new([]);
                nothing.instructions().end();
                code.function(&nothing);
            } else {
                self.parse_function_body(code, body?)?;
            }
        }
        Ok(())
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> Result<(), reencode::Error<Infallible>> {
        let is_linkers =
            ["linking", "name"].contains(&section.name()) || section.name().starts_with("reloc.");
        if is_linkers {
            return Ok(());
        }
        reencode::utils::parse_custom_section(self, module, section)
    }
}
