//! Limits the memory that networks and components leave in the heap.
//!
//! Tensors and components are megabytes each, and glibc keeps freed memory in the arena of the thread that allocated
//! it. By default almost every thread has an arena of its own, so each thread that has ever run a network would keep
//! as much memory as a run needs.

#![allow(unsafe_code, reason = "glibc's settings are C functions")]

/// Limits malloc to one arena for every two cores, for programs with networks: threads that share an arena wait for each
/// other. Call it before the threads start that run networks, since a thread keeps its arena.
pub fn limit_arenas() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arenas = i32::try_from(cores / 2).unwrap_or(i32::MAX).max(1);
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, and has no other effect.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
    }
    // A program for musl has an allocator of its own (`host/src/bin/spotter.rs`).
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}

/// Returns every block of a mebibyte or more to the system when it is freed. By itself, glibc raises this threshold to
/// 32 MiB if a program frees such blocks, and then keeps up to 64 MiB at the end of each arena.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, and has no other effect.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Returns freed blocks of 64 KiB or more, and the free end of each arena, to the system at once: for the compiler, which
/// frees much before its peak.
pub fn keep_no_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets two numbers, and has no other effect.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 10);
    }
}

/// Returns the free memory of all arenas to the system.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
