//! Which functions an instance can still call once its initialiser has run.

use std::collections::HashSet;

use super::memory::Memory;
use super::references::{References, Symbol};

/// The exports that run before the snapshot only.
const INITIALISERS: [&str; 2] = ["_initialize", "wizer-initialize"];

/// The functions that can be called, directly or through the table, from what a module exports, apart from its
/// initialisers. Constructors that have run count as functions that call nothing.
///
/// The search follows calls, relocations, and what the initialiser left in memory: all of the heap, and those pieces of
/// data that something refers to. The stack is below the data, and is empty.
pub(super) fn reachable(references: &References, memory: &Memory<'_>) -> HashSet<u32> {
    let mut search = Search { references, memory: Some(memory), found: HashSet::new() };
    if let Some(constructors) = constructors_that_have_run(references) {
        search.found.insert(Symbol::Function(constructors));
    }
    search.follow(exports(references, |name| !INITIALISERS.contains(&name)));
    search.follow(memory.targets(references.layout.heap_start()..usize::MAX));
    let functions = search.found.into_iter().filter_map(|symbol| match symbol {
        Symbol::Function(index) => Some(index),
        Symbol::Data(_) => None,
    });
    functions.collect()
}

/// The function that calls the constructors, if an initialiser calls it. If none does, it runs when the first request
/// comes.
pub(super) fn constructors_that_have_run(references: &References) -> Option<u32> {
    let mut search = Search { references, memory: None, found: HashSet::new() };
    search.follow(exports(references, |name| INITIALISERS.contains(&name)));
    references.constructors.filter(|function| search.found.contains(&Symbol::Function(*function)))
}

/// The functions that are exported under the names that are wanted.
fn exports(references: &References, is_wanted: impl Fn(&str) -> bool) -> Vec<Symbol> {
    let exports = references.layout.exports.iter().filter(|(name, _)| is_wanted(name));
    exports.map(|(_, index)| Symbol::Function(*index)).collect()
}

struct Search<'a> {
    references: &'a References,
    memory: Option<&'a Memory<'a>>,
    found: HashSet<Symbol>,
}

impl Search<'_> {
    /// Finds these symbols, and all that they refer to.
    fn follow(&mut self, mut pending: Vec<Symbol>) {
        while let Some(symbol) = pending.pop() {
            if !self.found.insert(symbol) {
                continue;
            }
            pending.extend(self.references.targets.get(&symbol).into_iter().flatten());
            if let (Symbol::Data(index), Some(memory)) = (symbol, self.memory) {
                pending.extend(memory.targets(self.references.data[index].clone()));
            }
        }
    }
}
