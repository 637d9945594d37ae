//! The limit on the memory of one instance.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::usage::Usage;

/// How many core modules one instance may consist of, and how many memories and tables they may have.
pub(crate) const MAX_CORE_INSTANCES: u32 = 32;
pub(crate) const MAX_MEMORIES: u32 = 4;
pub(crate) const MAX_TABLES: u32 = 32;
/// What an element of a table takes, in bytes.
const TABLE_ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// Limits the total size of an instance's memories and tables (a component may have several), and of the tensors that
/// the host holds for it.
pub(crate) struct MemoryLimit {
    limit_bytes: u64,
    total: u64,
    exceeded: bool,
    usage: Arc<Usage>,
}

impl MemoryLimit {
    pub(crate) fn new(limit_bytes: u64, usage: Arc<Usage>) -> Self {
        Self { limit_bytes, total: 0, exceeded: false, usage }
    }

    /// Whether the guest was refused memory.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// The instance's usage, in which this limit records the memory.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Subtracts `bytes` that [`MemoryLimit::try_grow`] added.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        self.total = self.total.saturating_sub(bytes);
    }

    /// Adds `bytes`, if the limit allows it.
    pub(crate) fn try_grow(&mut self, bytes: u64) -> bool {
        let total = self.total.saturating_add(bytes);
        if total > self.limit_bytes {
            self.exceeded = true;
            return false;
        }
        self.total = total;
        self.usage.record_memory(total);
        true
    }
}

/// Whether the module's own maximum allows this size. wasmtime asks before it checks that.
fn is_possible(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_none_or(|maximum| desired <= maximum)
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(is_possible(desired, maximum) && self.try_grow(desired.saturating_sub(current) as u64))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current) as u64;
        Ok(is_possible(desired, maximum)
            && self.try_grow(elements.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::{MemoryLimit, Usage};
    use wasmtime::ResourceLimiter;

    #[test]
    fn memories_and_tables_count_together() {
        let mut limit = MemoryLimit::new(1 << 20, Usage::start());
        assert!(limit.memory_growing(0, 512 << 10, None).unwrap());
        // 64 Ki elements of eight bytes each.
        assert!(limit.table_growing(0, 64 << 10, None).unwrap());
        assert!(!limit.exceeded);
        assert!(!limit.table_growing(64 << 10, (64 << 10) + 1, None).unwrap());
        assert!(!limit.memory_growing(512 << 10, 576 << 10, None).unwrap());
        assert!(limit.exceeded);
        limit.shrink(64 << 10);
        // What the module itself does not allow counts nothing.
        assert!(!limit.memory_growing(512 << 10, 576 << 10, Some(512 << 10)).unwrap());
        assert!(limit.try_grow(64 << 10));
        assert!(!limit.try_grow(1));
    }
}
