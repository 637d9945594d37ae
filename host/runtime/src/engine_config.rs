//! The configuration of wasmtime's engines: how code is interrupted, and how instances are allocated.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::memory_limit::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLES};
use spotter_app::component_manifest::Interruption;
use spotter_app::runtime_options::Allocation;
use spotter_config::Limits;

pub(crate) fn engine_config(
    limits: &Limits,
    interruption: Interruption,
    allocation: Allocation,
) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(interruption == Interruption::Epoch);
    config.wasm_component_model_async(true);
    if let Allocation::Pooled = allocation {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    }
    config
}

/// How much of an instance's memory the pool keeps and zeroes for the next one, in bytes.
const KEEP_RESIDENT_BYTES: usize = 256 << 10;

/// A pool for all instances that may exist at once, and for those without checks that have been given up.
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    let instances = limits.max_instances + limits.instances + limits.nested_instances();
    let slots = u32::try_from(instances).unwrap_or(u32::MAX).max(8);
    let warm = u32::try_from(limits.instances * 2).unwrap_or(u32::MAX).max(8);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(slots)
        // Every instance may have as many parts as its limits allow. What is unused takes addresses, but no memory.
        .total_core_instances(slots.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MAX_MEMORIES))
        .total_tables(slots.saturating_mul(MAX_TABLES))
        .total_stacks(slots)
        // After a time when many instances waited, their slots go back to the system.
        .max_unused_warm_slots(warm)
        // Zeroing a small amount costs less than returning it to the system, which interrupts every core.
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto)
        .table_elements(200_000)
        .max_memory_size(usize::try_from(limits.instance_memory).unwrap_or(usize::MAX))
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(8 << 20)
        .max_memories_per_component(MAX_MEMORIES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_tables_per_component(MAX_TABLES);
    pool
}
