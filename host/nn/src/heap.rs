//! Keeps what networks and components leave behind in the heap small.
//!
//! Tensors and components are megabytes each, and glibc keeps the memory of freed ones in the heap of the thread that freed them. By
//! default almost every thread has a heap of its own, so each thread that has ever run a network would keep as much
//! memory as a run needs.

#![allow(unsafe_code, reason = "glibc's settings are C functions")]

/// Lets two cores share one heap. Call it before other threads start: those have a heap already.
pub fn share() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let heaps = i32::try_from(cores / 2).unwrap_or(i32::MAX).max(1);
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, and has no other effect.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, heaps);
    }
    // Other libraries have one heap for all threads.
    #[cfg(not(target_env = "gnu"))]
    let _ = heaps;
}

/// Returns every block of a mebibyte or more to the system when it is freed. glibc raises that bound to 32 MiB if a
/// program frees such blocks, and then keeps up to 64 MiB at the end of each heap.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, and has no other effect.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Returns the free memory of all heaps to the system.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
