//! Folds functions with the same code into one, as linkers do (`--icf`). Their places in the table stay apart, so that
//! pointers to different functions still differ.

use std::collections::HashMap;

use wasmparser::{Parser, Payload};

use super::layout::is_function;
use super::rewrite;

/// The module, with identical functions folded into the first of them.
///
/// # Errors
/// If the module is malformed.
pub(super) fn fold_identical_functions(mut module: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    loop {
        let functions = Functions::of(&module)?;
        let substitutes = functions.first_of_each_kind();
        let defined = functions.imported..functions.imported + u32::try_from(substitutes.len())?;
        if defined.clone().eq(substitutes.iter().copied()) {
            return Ok(module);
        }
        // Functions that called different copies may be identical now.
        module = rewrite::substitute(&module, defined, substitutes)?;
    }
}

/// The functions of a module.
struct Functions<'a> {
    imported: u32,
    /// The type and the code of each that is not imported.
    defined: Vec<(u32, &'a [u8])>,
}

impl<'a> Functions<'a> {
    fn of(module: &'a [u8]) -> anyhow::Result<Self> {
        let (mut imported, mut types, mut bodies) = (0, Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        imported += u32::from(is_function(import?.ty));
                    }
                }
                Payload::FunctionSection(section) => {
                    types = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::CodeSectionEntry(body) => bodies.push(&module[body.range()]),
                _ => {}
            }
        }
        Ok(Self { imported, defined: types.into_iter().zip(bodies).collect() })
    }

    /// For each defined function, the first that has the same type and code.
    fn first_of_each_kind(&self) -> Vec<u32> {
        let mut first = HashMap::new();
        let numbered = (self.imported..).zip(&self.defined);
        numbered.map(|(function, kind)| *first.entry(kind).or_insert(function)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use wasm_encoder::{
        CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection,
        Function, FunctionSection, ImportSection, Module, RefType, TableSection, TableType,
        TypeSection, ValType,
    };
    use wasmtime::{Engine, Instance, Store};

    use super::{Functions, fold_identical_functions};

    fn function(body: impl FnOnce(&mut Function)) -> Function {
        let mut function = Function::new([]);
        body(&mut function);
        function.instructions().end();
        function
    }

    /// The functions of a module whose first is imported: 1 and 2 are copies; 3 and 4 call them; 5 has their code but
    /// takes a parameter; 6 differs from 1 in its variables only; 7 adds what the import, 6, and, through the table, 3, 4
    /// and 5 return.
    fn module() -> Vec<u8> {
        let seven = || function(|body| _ = body.instructions().i32_const(7));
        let call = |called| function(|body| _ = body.instructions().call(called));
        let mut with_variable = Function::new([(1, ValType::I32)]);
        with_variable.instructions().i32_const(7).end();
        let sum = function(|body| {
            body.instructions().call(0).call(6);
            body.instructions().i32_const(0).call_indirect(0, 0).i32_const(1).call_indirect(0, 0);
            body.instructions().i32_const(9).i32_const(2).call_indirect(0, 1);
            body.instructions().i32_add().i32_add().i32_add().i32_add();
        });
        let mut types = TypeSection::new();
        types.ty().function([], [ValType::I32]);
        types.ty().function([ValType::I32], [ValType::I32]);
        let mut imports = ImportSection::new();
        imports.import("host", "number", EntityType::Function(0));
        let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
        let bodies = [seven(), seven(), call(1), call(2), seven(), with_variable, sum];
        for (body, function_type) in bodies.iter().zip([0, 0, 0, 0, 1, 0, 0]) {
            functions.function(function_type);
            code.function(body);
        }
        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            minimum: 3,
            maximum: Some(3),
            table64: false,
            shared: false,
        });
        let mut exports = ExportSection::new();
        exports.export("sum", ExportKind::Func, 7);
        let mut elements = ElementSection::new();
        let in_table = Elements::Functions(Cow::Borrowed(&[3, 4, 5]));
        elements.active(None, &ConstExpr::i32_const(0), in_table);
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&tables);
        module.section(&exports).section(&elements).section(&code);
        module.finish()
    }

    #[test]
    fn copies_and_those_that_call_them_become_one_and_the_table_keeps_its_length() {
        let folded = fold_identical_functions(module()).unwrap();
        // 1, 3, 5, 6 and 7.
        assert_eq!(Functions::of(&folded).unwrap().defined.len(), 5);
        let engine = Engine::default();
        let module = wasmtime::Module::new(&engine, folded).unwrap();
        let mut store = Store::new(&engine, ());
        let import = wasmtime::Func::wrap(&mut store, || 100);
        let instance = Instance::new(&mut store, &module, &[import.into()]).unwrap();
        let sum = instance.get_typed_func::<(), i32>(&mut store, "sum").unwrap();
        assert_eq!(sum.call(&mut store, ()).unwrap(), 100 + 4 * 7);
    }
}
