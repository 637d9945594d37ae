//! Removes what a baked module can never call.
//!
//! Nine tenths of the detector's code parse and optimise the network, and run only while a model is baked. The linker
//! cannot know that, so `spotter bake` looks for it: a function is kept if relocations lead to it from the module's
//! exports, or from the memory that the initialiser leaves behind.
//!
//! A number in memory may be a function's index in the table, or just a number. So the initialiser also runs in a copy of
//! the module whose table starts elsewhere. An index differs there.

mod memory;
mod reachable;
mod references;
mod rewrite;
mod table;
#[cfg(test)]
mod tests;

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
    /// Reads a module. `None` if it was linked without `--emit-relocs`.
    ///
    /// # Errors
    /// If the module is malformed, or its relocations do not fit its sections.
    pub(super) fn new(module: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(references) = References::from_module(module)? else { return Ok(None) };
        let moved = table::moved(module, &references)?;
        Ok(Some(Self { references, moved }))
    }

    /// The copy of the module whose table starts elsewhere.
    pub(super) fn moved(&self) -> &[u8] {
        &self.moved
    }

    /// Removes the code that is dead in a snapshot of `module`, and the linker's sections. `moved_memory` is the memory of
    /// [`moved`](Self::moved) once its initialiser has run.
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
        rewrite::keep(&snapshot.module, &self.references, &kept)
    }
}
