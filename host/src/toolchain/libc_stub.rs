//! An object file with two functions that modules built with Debian's C library for WASI (of 2022) need.
//!
//! - `realpath`: Rust's standard library refers to it, but the C library lacks it. A function has no files to resolve,
//!   so this one always fails.
//! - `cabi_realloc`: the preview 1 adapter allocates its state with it. Without it, the adapter grows the memory
//!   instead, and this C library takes all memory that exists at its first allocation, so it would overwrite the state.
//!   Modules that embed WIT interfaces have a function of this name. Theirs is used: rustc passes this object after the
//!   crates, and of two weak functions the linker takes the first.

use std::borrow::Cow;

use wasm_encoder::{
    CodeSection, CustomSection, EntityType, Function, FunctionSection, ImportSection, Instruction,
    LinkingSection, Module, SymbolTable, TypeSection, ValType,
};

/// The index of the code section among all sections.
const CODE_SECTION: u8 = 3;

/// The position in the code section of the index of the function that `cabi_realloc` calls: after the number of
/// functions, `realpath` with its size (5 bytes), and the size, the locals and the first two instructions of
/// `cabi_realloc`.
const CALLED_INDEX_OFFSET: u8 = 13;

/// `char *realpath(const char *path, char *resolved)` that returns a null pointer, and
/// `void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size)` for an `old` that is null
/// (<https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md>).
pub(super) fn object() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 2], [ValType::I32]);
    types.ty().function([ValType::I32; 4], [ValType::I32]);
    let mut imports = ImportSection::new();
    imports.import("env", "aligned_alloc", EntityType::Function(0));
    let mut functions = FunctionSection::new();
    functions.function(0).function(1);

    let mut realpath = Function::new([]);
    realpath.instruction(&Instruction::I32Const(0)).instruction(&Instruction::End);
    let mut realloc = Function::new([]);
    realloc.instruction(&Instruction::LocalGet(2)).instruction(&Instruction::LocalGet(3));
    // A call of function 0, whose index has room for any number: the linker replaces it.
    realloc.raw([0x10, 0x80, 0x80, 0x80, 0x80, 0x00]).instruction(&Instruction::End);
    let mut code = CodeSection::new();
    code.function(&realpath).function(&realloc);

    let mut symbols = SymbolTable::new();
    symbols.function(SymbolTable::WASM_SYM_UNDEFINED, 0, None);
    symbols.function(SymbolTable::WASM_SYM_BINDING_WEAK, 1, Some("realpath"));
    symbols.function(SymbolTable::WASM_SYM_BINDING_WEAK, 2, Some("cabi_realloc"));
    let mut linking = LinkingSection::new();
    linking.symbol_table(&symbols);
    // One relocation: R_WASM_FUNCTION_INDEX_LEB of symbol 0.
    let relocation = [CODE_SECTION, 1, 0, CALLED_INDEX_OFFSET, 0];
    let relocations = CustomSection { name: "reloc.CODE".into(), data: Cow::Borrowed(&relocation) };

    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions).section(&code);
    module.section(&linking).section(&relocations);
    module.finish()
}

#[cfg(test)]
mod tests {
    use wasmparser::{Parser, Payload};

    use super::{CALLED_INDEX_OFFSET, CODE_SECTION, object};

    #[test]
    fn the_relocation_is_that_of_the_call() {
        let object = object();
        let mut sections = Parser::new(0).parse_all(&object).filter_map(|payload| {
            let payload = payload.unwrap();
            let range = payload.as_section().map(|(_, range)| range);
            range.map(|range| (range, matches!(payload, Payload::CodeSectionStart { .. })))
        });
        let (code, is_code) = sections.nth(CODE_SECTION.into()).unwrap();
        assert!(is_code);
        let called = code.start + usize::from(CALLED_INDEX_OFFSET);
        assert_eq!(object[called - 1..called + 6], [0x10, 0x80, 0x80, 0x80, 0x80, 0x00, 0x0b]);
        wasmparser::validate(&object).unwrap();
    }
}
