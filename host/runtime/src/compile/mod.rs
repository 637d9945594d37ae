//! From a component's file to code that runs: wrapped, composed with its dependencies, compiled, and cached.

pub mod code_cache;
pub mod compiler_memory;
mod compose;
pub(crate) mod dependency_isolation;
pub mod precompile;
pub mod prepare;
mod rename_interfaces;
pub mod wrap;
