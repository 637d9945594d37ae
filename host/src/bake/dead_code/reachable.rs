//! Which functions an instance can still call once its initialiser has run.

use std::collections::HashSet;

use super::memory::Memory;
use super::references::{References, Symbol};

/// The exports that run before the snapshot only.
const INITIALISERS: [&str; 2] = ["_initialize", "wizer-initialize"];

/// The functions that can be called, directly or through the table, from what a module exports, apart from its
/// initialisers. Constructors count as functions that call nothing, since they have run.
///
/// The search follows calls, relocations, and what the initialiser left in memory: all of the heap, which is above the
/// data, and those pieces of data that something refers to. The stack is below the data, and is empty.
pub(super) fn reachable(references: &References, memory: &Memory<'_>) -> HashSet<u32> {
    let exports = references.exports.iter();
    let exports = exports.filter(|(name, _)| !INITIALISERS.contains(&name.as_str()));
    let mut pending: Vec<Symbol> = exports.map(|(_, index)| Symbol::Function(*index)).collect();
    let heap_start = references.data.last().map_or(0, |range| range.end);
    pending.extend(memory.targets(heap_start..usize::MAX));
    let constructors = references.constructors.map(Symbol::Function);
    let mut found = HashSet::new();
    while let Some(symbol) = pending.pop() {
        if !found.insert(symbol) || constructors == Some(symbol) {
            continue;
        }
        pending.extend(references.targets.get(&symbol).into_iter().flatten());
        if let Symbol::Data(index) = symbol {
            pending.extend(memory.targets(references.data[index].clone()));
        }
    }
    let functions = found.into_iter().filter_map(|symbol| match symbol {
        Symbol::Function(index) => Some(index),
        Symbol::Data(_) => None,
    });
    functions.collect()
}
