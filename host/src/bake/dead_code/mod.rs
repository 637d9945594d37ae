//! Removes what a baked module can never call.
//!
//! Most of the detector's code parses and optimises the network, and runs only while a model is baked. The linker cannot
//! know that, so `spotter bake` looks for it: a function is kept if calls and relocations lead to it from the module's
//! exports, or from the memory that the initialiser leaves behind.
//!
//! A number in memory may be a function's index in the table, or just a number. So the initialiser also runs in a copy of
//! the module whose table starts elsewhere. An index differs there.

mod folding;
mod layout;
mod memory;
mod reachable;
mod references;
mod rewrite;
mod table;
#[cfg(test)]
mod tests;

use folding::fold_identical_functions;
use memory::Memory;
use reachable::reachable;
use references::References;

use super::snapshot::Snapshot;

/// A module whose dead code can be found.
pub(super) struct LinkedModule {
    references: References,
    moved: Vec<u8>,
}

impl LinkedModule {
    /// Reads a module.
    ///
    /// # Errors
    /// If the module was linked without `--emit-relocs`, or references in it could be missed.
    pub(super) fn new(module: &[u8]) -> anyhow::Result<Self> {
        let references = References::from_module(module)?;
        let moved = table::moved(module, &references)?;
        Ok(Self { references, moved })
    }

    /// The copy of the module whose table starts elsewhere.
    pub(super) fn moved(&self) -> &[u8] {
        &self.moved
    }

    /// Removes the code that is dead in a snapshot of `module`, copies of functions, and the linker's sections.
    /// `moved_memory` is the memory of [`moved`](Self::moved) once its initialiser has run.
    ///
    /// # Errors
    /// If a module is malformed.
    pub(super) fn remove_dead_code(
        &self,
        module: &[u8],
        snapshot: &Snapshot,
        moved_memory: Vec<u8>,
    ) -> anyhow::Result<Vec<u8>> {
        let memory = Memory::new(&self.references, module, &snapshot.memory, moved_memory)?;
        let kept = reachable(&self.references, &memory);
        fold_identical_functions(rewrite::keep(&snapshot.module, &self.references, &kept)?)
    }
}
