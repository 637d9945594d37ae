//! What an instance may use: CPU time, memory, and what it leaves waiting or receives.

pub mod cpu_limit;
pub(crate) mod limited_stream;
pub(crate) mod memory_limit;
pub mod usage;
pub(crate) mod waiting_bytes;
