//! An object file that defines `realpath`. Rust's standard library refers to `realpath`, but Debian's C library for
//! WASI (of 2022) lacks it. A function has no files to resolve, so this `realpath` always fails.

use wasm_encoder::{
    CodeSection, Function, FunctionSection, Instruction, LinkingSection, Module, SymbolTable,
    TypeSection, ValType,
};

/// `char *realpath(const char *path, char *resolved)` that returns a null pointer.
pub(super) fn object() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32, ValType::I32], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut body = Function::new([]);
    body.instruction(&Instruction::I32Const(0)).instruction(&Instruction::End);
    let mut code = CodeSection::new();
    code.function(&body);
    let mut symbols = SymbolTable::new();
    symbols.function(SymbolTable::WASM_SYM_BINDING_WEAK, 0, Some("realpath"));
    let mut linking = LinkingSection::new();
    linking.symbol_table(&symbols);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code).section(&linking);
    module.finish()
}
