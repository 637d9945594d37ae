//! Writes a module again, with only some of its functions.

use std::collections::HashSet;
use std::convert::Infallible;
use std::ops::Range;

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
    let substitute =
        |function| if kept.contains(&function) { function } else { trap.unwrap_or(function) };
    let substitutes = defined.clone().map(substitute).collect();
    let constructors = constructors_that_have_run(references);
    Rewriter { trap, constructors, ..Rewriter::new(defined, substitutes) }.rewrite(module)
}

/// The module with other functions in the place of some. `substitutes` has one function for each in `defined`: itself,
/// or another that is its own substitute.
///
/// # Errors
/// If the module is malformed.
pub(super) fn substitute(
    module: &[u8],
    defined: Range<u32>,
    substitutes: Vec<u32>,
) -> anyhow::Result<Vec<u8>> {
    Rewriter::new(defined, substitutes).rewrite(module)
}

struct Rewriter {
    /// The functions that are not imported, by their old indices.
    defined: Range<u32>,
    /// For each of them, the function that takes its place: itself if it stays.
    substitutes: Vec<u32>,
    /// For each of them, its new index, or that of its substitute.
    new_indices: Vec<u32>,
    /// The removed function that stays, as a trap, in place of all removed ones.
    trap: Option<u32>,
    /// The function that calls the constructors, if they have run: it becomes empty.
    constructors: Option<u32>,
}

impl Rewriter {
    fn new(defined: Range<u32>, substitutes: Vec<u32>) -> Self {
        let mut next = defined.start;
        let mut new_indices = vec![0; substitutes.len()];
        let position = |function: u32| (function - defined.start) as usize;
        for (function, substitute) in defined.clone().zip(&substitutes) {
            if function == *substitute {
                new_indices[position(function)] = next;
                next += 1;
            }
        }
        for (function, substitute) in defined.clone().zip(&substitutes) {
            new_indices[position(function)] = new_indices[position(*substitute)];
        }
        Self { defined, substitutes, new_indices, trap: None, constructors: None }
    }

    fn rewrite(mut self, module: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut rewritten = Module::new();
        self.parse_core_module(&mut rewritten, Parser::new(0), module)?;
        Ok(rewritten.finish())
    }

    /// Those of the items, one for each function that is not imported, whose functions stay.
    fn of_remaining<T>(&self, items: impl Iterator<Item = T>) -> Vec<(u32, T)> {
        let functions = self.defined.clone().zip(&self.substitutes).zip(items);
        let remaining = functions.filter(|((function, substitute), _)| function == *substitute);
        remaining.map(|((function, _), item)| (function, item)).collect()
    }
}

impl Reencode for Rewriter {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Infallible>> {
        let position = function.checked_sub(self.defined.start);
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
