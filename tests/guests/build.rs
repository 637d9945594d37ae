//! Writes an object file with a function that replaces the value of a WebAssembly global by its argument.
//!
//! The format of object files: <https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md>.

use std::path::Path;

use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, FunctionSection, GlobalSection, GlobalType,
    LinkingSection, Module, SymbolTable, TypeSection, ValType,
};

/// `(global.get CANARY) (global.set CANARY (local.get 0))`. Each has five bytes for the global's index, which the
/// linker fills in.
const BODY: [u8; 16] = [
    0, // no locals
    0x23, 0x80, 0x80, 0x80, 0x80, 0x00, // global.get
    0x20, 0x00, // local.get 0
    0x24, 0x80, 0x80, 0x80, 0x80, 0x00, // global.set
    0x0b, // end
];

/// The offsets of the two indices in the code section, whose body follows two bytes of length.
const RELOCATED: [u8; 2] = [2 + 2, 2 + 10];

/// `R_WASM_GLOBAL_INDEX_LEB`.
const GLOBAL_INDEX: u8 = 7;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let folder = std::env::var_os("OUT_DIR").expect("cargo names a folder");
    let path = Path::new(&folder).join("global.o");
    std::fs::write(&path, object()).expect("an object file is written");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|target| target == "wasm32") {
        println!("cargo::rustc-link-arg-cdylib={}", path.display());
    }
}

fn object() -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut globals = GlobalSection::new();
    let kind = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
    globals.global(kind, &ConstExpr::i32_const(0));
    let mut code = CodeSection::new();
    code.raw(&BODY);
    let mut symbols = SymbolTable::new();
    symbols.function(0, 0, Some("swap_canary_global"));
    symbols.global(SymbolTable::WASM_SYM_BINDING_LOCAL, 0, Some("canary_global"));
    let mut linking = LinkingSection::new();
    linking.symbol_table(&symbols);
    // The code is the fourth section of the module; the global is the second symbol.
    let mut relocations = vec![3, RELOCATED.len() as u8];
    for offset in RELOCATED {
        relocations.extend([GLOBAL_INDEX, offset, 1]);
    }
    let relocations =
        CustomSection { name: "reloc.CODE".into(), data: relocations.as_slice().into() };
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&globals).section(&code);
    module.section(&linking).section(&relocations);
    module.finish()
}
