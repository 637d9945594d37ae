//! Regions of linear memory, and the source that hands them out to a heap.

use std::cell::Cell;
use std::ptr;

use dlmalloc::Allocator;

pub(super) const PAGE_BYTES: usize = 64 << 10;

/// A region of linear memory, from `start` up to, but not including, `end`.
#[derive(Clone, Copy)]
pub(super) struct Region {
    start: usize,
    end: usize,
}

impl Region {
    pub(super) const EMPTY: Self = Self { start: 0, end: 0 };

    /// Grows the linear memory. Returns `None` if the limit is reached.
    pub(super) fn grow(bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let start = grow(pages)?;
        Some(Self { start, end: start + pages * PAGE_BYTES })
    }

    pub(super) fn contains<T>(self, pointer: *mut T) -> bool {
        (self.start..self.end).contains(&pointer.addr())
    }

    pub(super) fn pointer(self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start)
    }

    pub(super) fn length(self) -> usize {
        self.end - self.start
    }
}

/// Allocates this many new pages, and returns their address.
#[cfg(target_arch = "wasm32")]
fn grow(pages: usize) -> Option<usize> {
    std::arch::wasm32::memory_grow(0, pages).checked_mul(PAGE_BYTES)
}

/// The same for native tests, from memory that is never freed.
#[cfg(not(target_arch = "wasm32"))]
fn grow(pages: usize) -> Option<usize> {
    Some(vec![0_u8; pages * PAGE_BYTES].leak().as_mut_ptr().expose_provenance())
}

/// The source of a heap's memory: a fixed region and then, if it `grows`, further regions.
pub(super) struct MemorySource {
    region: Cell<Region>,
    grows: bool,
}

/// Memory that loading no longer needs, for the scratch heap.
pub(super) struct SpareRegion(Cell<Region>);

impl SpareRegion {
    pub(super) fn set(&self, region: Region) {
        self.0.set(region);
    }
}

// SAFETY: a component has one thread.
unsafe impl Sync for SpareRegion {}

pub(super) static SPARE_REGION: SpareRegion = SpareRegion(Cell::new(Region::EMPTY));

impl MemorySource {
    pub(super) const fn fixed(region: Region) -> Self {
        Self { region: Cell::new(region), grows: false }
    }

    pub(super) const fn growing() -> Self {
        Self { region: Cell::new(Region::EMPTY), grows: true }
    }

    fn next(&self, size: usize) -> Option<Region> {
        let own = self.region.replace(Region::EMPTY);
        if own.length() >= size && own.length() > 0 {
            return Some(own);
        }
        if !self.grows {
            return None;
        }
        let spare = SPARE_REGION.0.replace(Region::EMPTY);
        if spare.length() >= size && spare.length() > 0 {
            return Some(spare);
        }
        Region::grow(size)
    }
}

// SAFETY: every region comes from `memory.grow`, is used by nothing else, and is handed out once.
unsafe impl Allocator for MemorySource {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        match self.next(size) {
            Some(region) => (region.pointer(), region.length(), 0),
            None => (ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}
