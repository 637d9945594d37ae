//! What an instance may use of CPU time and memory, and what it has used.

pub mod cpu_limit;
pub(crate) mod memory_limit;
pub mod usage;
