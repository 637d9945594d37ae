//! Dead code is removed from a small module that is put together like a linked one.

use std::borrow::Cow;

use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, DataSection, DataSymbolDefinition, ElementSection,
    Elements, Encode, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, LinkingSection, MemArg, MemorySection, MemoryType, Module, RefType, SymbolTable,
    TableSection, TableType, TypeSection, ValType,
};
use wasmtime::{Engine, Instance, Store};

use super::LinkedModule;
use crate::bake::snapshot::Initialiser;

// The functions, by their indices.
const INITIALISE: u32 = 1;
const RUN: u32 = 2;
const CALL_CONSTRUCTORS: u32 = 3;
const ON_THE_HEAP: u32 = 4;
const IN_DATA: u32 = 5;
const DEAD: u32 = 6;
const CONSTRUCTOR: u32 = 7;

/// The functions in the table, which starts at 1.
const TABLE: [u32; 3] = [ON_THE_HEAP, IN_DATA, DEAD];

/// Where the data is: two indices in the table, each a symbol of its own.
const DATA: i32 = 0x100;
/// Where the heap is. The initialiser stores an index in the table, the address of the first piece of data, and a
/// number that only looks like an index.
const HEAP: i32 = 0x200;

/// The flag of a symbol whose offset is an address.
const ABSOLUTE: u32 = 0x200;

/// Kinds of relocations, and symbols by their positions in [`linking`].
const FUNCTION_INDEX_LEB: u8 = 0;
const TABLE_INDEX_SLEB: u8 = 1;
const TABLE_INDEX_I32: u8 = 2;
const MEMORY_ADDR_SLEB: u8 = 4;
const SYMBOL_ON_THE_HEAP: u32 = 0;
const SYMBOL_IN_DATA: u32 = 1;
const SYMBOL_DEAD: u32 = 2;
const SYMBOL_FIRST_DATA: u32 = 3;
const SYMBOL_CONSTRUCTORS: u32 = 5;

/// `i32.const` with a number that is padded to five bytes, as a linker writes it.
fn padded_constant(function: &mut Function, number: i32) -> usize {
    function.raw([0x41]);
    let offset = function.byte_len();
    function.raw((0..5).map(|position| {
        let [byte, ..] = (number >> (7 * position)).to_le_bytes();
        byte & 0x7f | u8::from(position < 4) << 7
    }));
    offset
}

/// The initialiser, and where its code holds an index in the table, an address, and a function.
fn initialise() -> (Function, [usize; 3]) {
    let mut function = Function::new([]);
    let word = |offset| MemArg { offset, align: 2, memory_index: 0 };
    function.instructions().i32_const(HEAP);
    let index = padded_constant(&mut function, 1);
    function.instructions().i32_store(word(0)).i32_const(HEAP);
    let address = padded_constant(&mut function, DATA);
    function.instructions().i32_store(word(4)).i32_const(HEAP).i32_const(3).i32_store(word(8));
    let call = function.byte_len() + 1;
    function.instructions().call(CALL_CONSTRUCTORS).end();
    (function, [index, address, call])
}

fn run() -> Function {
    let mut function = Function::new([]);
    let word = |offset| MemArg { offset, align: 2, memory_index: 0 };
    function.instructions().call(CALL_CONSTRUCTORS);
    function.instructions().i32_const(HEAP).i32_load(word(0)).call_indirect(0, 1);
    function.instructions().i32_const(HEAP).i32_load(word(4)).i32_load(word(0)).call_indirect(0, 1);
    function.instructions().i32_add().i32_const(HEAP).i32_load(word(8)).i32_add().end();
    function
}

/// A function without parameters that returns a number.
fn returning(number: i32) -> Function {
    let mut function = Function::new([]);
    function.instructions().i32_const(number).end();
    function
}

fn relocations(
    section: &'static str,
    index: u32,
    entries: &[(u8, usize, u32)],
) -> CustomSection<'static> {
    let mut data = Vec::new();
    index.encode(&mut data);
    entries.len().encode(&mut data);
    for (kind, offset, symbol) in entries {
        data.push(*kind);
        offset.encode(&mut data);
        symbol.encode(&mut data);
        if *kind == MEMORY_ADDR_SLEB {
            0_i32.encode(&mut data);
        }
    }
    CustomSection { name: Cow::Borrowed(section), data: data.into() }
}

fn linking() -> LinkingSection {
    let mut symbols = SymbolTable::new();
    symbols.function(0, ON_THE_HEAP, Some("on_the_heap"));
    symbols.function(0, IN_DATA, Some("in_data"));
    symbols.function(0, DEAD, Some("dead"));
    symbols.data(0, "first", Some(DataSymbolDefinition { index: 0, offset: 0, size: 4 }));
    symbols.data(0, "second", Some(DataSymbolDefinition { index: 0, offset: 4, size: 4 }));
    symbols.function(0, CALL_CONSTRUCTORS, Some("__wasm_call_ctors"));
    let heap = HEAP.cast_unsigned();
    let heap_base = DataSymbolDefinition { index: 0, offset: heap, size: 0 };
    symbols.data(ABSOLUTE, "__heap_base", Some(heap_base));
    symbols.function(SymbolTable::WASM_SYM_UNDEFINED, 0, None);
    let mut linking = LinkingSection::new();
    linking.symbol_table(&symbols);
    linking
}

/// The sections before the code.
fn declarations(module: &mut Module) {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [ValType::I32]);
    let mut imports = ImportSection::new();
    imports.import("wasi_snapshot_preview1", "sched_yield", EntityType::Function(1));
    let mut functions = FunctionSection::new();
    for function_type in [0, 1, 0, 1, 1, 1, 0] {
        functions.function(function_type);
    }
    let mut tables = TableSection::new();
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        minimum: 4,
        maximum: Some(4),
        table64: false,
        shared: false,
    });
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports.export("wizer-initialize", ExportKind::Func, INITIALISE);
    exports.export("run", ExportKind::Func, RUN);
    exports.export("memory", ExportKind::Memory, 0);
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::i32_const(1), Elements::Functions(Cow::Borrowed(&TABLE)));
    module.section(&types).section(&imports).section(&functions).section(&tables);
    module.section(&memories).section(&exports).section(&elements);
}

/// A module whose export `run` calls one function whose index is on the heap, and one whose index is in data. Its
/// constructor must run once.
fn linked() -> Vec<u8> {
    let mut module = Module::new();
    declarations(&mut module);
    let (initialise, [index, address, call]) = initialise();
    let mut constructor = Function::new([]);
    let flag = MemArg { offset: 12, align: 2, memory_index: 0 };
    constructor.instructions().i32_const(HEAP).i32_load(flag).if_(wasm_encoder::BlockType::Empty);
    constructor.instructions().unreachable().end();
    constructor.instructions().i32_const(HEAP).i32_const(1).i32_store(flag).end();
    let mut call_constructors = Function::new([]);
    call_constructors.instructions().call(CONSTRUCTOR).end();
    let mut code = CodeSection::new();
    for function in [
        &initialise,
        &run(),
        &call_constructors,
        &returning(10),
        &returning(200),
        &returning(-1),
        &constructor,
    ] {
        code.function(function);
    }
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(DATA), [2, 0, 0, 0, 3, 0, 0, 0]);
    module.section(&code).section(&data).section(&linking());
    // One byte for the number of functions, and one for the length of the first.
    let in_code = [
        (TABLE_INDEX_SLEB, 2 + index, SYMBOL_ON_THE_HEAP),
        (MEMORY_ADDR_SLEB, 2 + address, SYMBOL_FIRST_DATA),
        (FUNCTION_INDEX_LEB, 2 + call, SYMBOL_CONSTRUCTORS),
    ];
    // One byte each for the number of segments, the kind and the end of the offset, and the length; four for the offset.
    let in_data = [(TABLE_INDEX_I32, 7, SYMBOL_IN_DATA), (TABLE_INDEX_I32, 11, SYMBOL_DEAD)];
    module.section(&relocations("reloc.CODE", 7, &in_code));
    module.section(&relocations("reloc.DATA", 8, &in_data));
    module.finish()
}

fn baked() -> Vec<u8> {
    let module = linked();
    let files = [];
    let initialiser = Initialiser::new(&files).unwrap();
    let snapshot = initialiser.snapshot(&module).unwrap();
    let linked = LinkedModule::new(&module).unwrap();
    let moved_memory = initialiser.memory_of_copy(linked.moved(), &snapshot).unwrap();
    linked.remove_dead_code(&module, &snapshot, moved_memory).unwrap()
}

#[test]
fn what_the_heap_and_data_refer_to_still_runs_and_constructors_do_not() {
    let engine = Engine::default();
    let module = wasmtime::Module::new(&engine, baked()).unwrap();
    let mut store = Store::new(&engine, ());
    let import = wasmtime::Func::wrap(&mut store, || 0);
    let instance = Instance::new(&mut store, &module, &[import.into()]).unwrap();
    let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), 213);
}

#[test]
fn dead_functions_and_the_linkers_sections_are_gone() {
    let mut functions = 0;
    for payload in wasmparser::Parser::new(0).parse_all(&baked()) {
        match payload.unwrap() {
            wasmparser::Payload::CodeSectionEntry(_) => functions += 1,
            wasmparser::Payload::CustomSection(section) => panic!("the section {}", section.name()),
            _ => {}
        }
    }
    // `run`, the call of the constructors, the two that `run` calls, and the one that traps.
    assert_eq!(functions, 5);
}

/// Why the dead code of a module stays.
fn refusal(module: &[u8]) -> String {
    LinkedModule::new(module).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_module_in_which_references_could_be_missed_keeps_its_code() {
    assert_eq!(refusal(&Module::new().finish()), "the module was linked without `--emit-relocs`");
    let mut module = linked();
    // The symbol's function and the length of its name precede the name.
    let name = b"__wasm_call_ctors";
    let position = module.windows(name.len()).position(|bytes| bytes == name).unwrap();
    module[position - 2] += 1;
    assert_eq!(refusal(&module), "the relocations are not those of this code");
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::i32_const(1), Elements::Functions(Cow::Borrowed(&[])));
    elements.active(None, &ConstExpr::i32_const(1), Elements::Functions(Cow::Borrowed(&[])));
    let mut module = Module::new();
    module.section(&elements);
    assert_eq!(refusal(&module.finish()), "the module has several element segments");
}
