//! The component's allocator. It uses two heaps, so that the snapshot contains the model in one dense region, and
//! none of the other memory that loading it allocated.
//!
//! Loading a model allocates several times the memory that the model finally occupies. With one heap, the model would
//! be scattered over all of it, and the snapshot would be three times as large, or too sparse for wasmtime to map. When
//! a block is allocated, there is no way to know whether it will be freed. But loading the same files twice allocates
//! the same blocks in the same order. So the first load *records* which blocks are never freed. A second load, in a
//! fresh instance, *places* those blocks in a separate dense heap, below the other one. The memory of the other heap is
//! then zeroed and used for requests.

#![allow(unsafe_code, reason = "an allocator needs it")]

mod region;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;

use dlmalloc::Dlmalloc;

use region::{MemorySource, PAGE_BYTES, Region, SPARE_REGION};

/// In a recording, the space before each block for its number.
const HEADER_BYTES: usize = 16;

/// The overhead of dlmalloc for each block.
const BLOCK_OVERHEAD_BYTES: usize = 16;

/// Linear memory for a recording, of which no snapshot is taken.
const RECORDING_HEAP_BYTES: usize = 1 << 30;

/// Which blocks of a load are never freed, by the order of their allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LiveBlocks {
    /// A bit for each block.
    bits: Vec<u8>,
    /// The memory that the live blocks need.
    live_bytes: usize,
    /// The most memory that all blocks needed at once.
    peak_bytes: usize,
}

impl LiveBlocks {
    /// The format that the first load hands to the second: `live_bytes` and `peak_bytes` as 8 bytes each, then the
    /// bits.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let numbers =
            [self.live_bytes, self.peak_bytes].map(|number| (number as u64).to_le_bytes());
        [numbers.concat().as_slice(), &self.bits].concat()
    }

    /// Parses the output of [`LiveBlocks::to_bytes`]. Returns `None` for anything shorter.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (live_bytes, rest) = bytes.split_first_chunk::<8>()?;
        let (peak_bytes, bits) = rest.split_first_chunk::<8>()?;
        let number = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
        Some(Self {
            bits: bits.to_vec(),
            live_bytes: number(live_bytes)?,
            peak_bytes: number(peak_bytes)?,
        })
    }

    fn contains(&self, number: usize) -> bool {
        self.bits.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
    }
}

/// The allocator's mode.
enum Phase {
    /// A single heap, as usual.
    Plain,
    /// The first load: `alive` has a bit for each block that has not been freed yet.
    Recording { alive: Vec<u8>, next: usize, live_bytes: usize, peak_bytes: usize },
    /// After the first load. Its heap is closed: the live blocks stay where they are until the instance ends.
    Recorded,
    /// The second load.
    Placing { live_blocks: LiveBlocks, next: usize, misplaced: usize },
}

/// A heap, and the region of its blocks.
struct Heap {
    blocks: Dlmalloc<MemorySource>,
    region: Region,
}

impl Heap {
    const fn empty() -> Self {
        Self {
            blocks: Dlmalloc::new_with_allocator(MemorySource::fixed(Region::EMPTY)),
            region: Region::EMPTY,
        }
    }

    /// A heap in newly grown memory of at least this size; empty if memory cannot grow.
    fn new(bytes: usize) -> Self {
        let region = Region::grow(bytes).unwrap_or(Region::EMPTY);
        Self { blocks: Dlmalloc::new_with_allocator(MemorySource::fixed(region)), region }
    }
}

struct Heaps {
    phase: Phase,
    /// Blocks that stay in the snapshot.
    kept: Heap,
    /// Blocks that a load frees again.
    transient: Heap,
    /// All other blocks, and those of requests.
    scratch: Dlmalloc<MemorySource>,
}

/// The component's global allocator.
pub(super) struct SnapshotAllocator(UnsafeCell<Heaps>);

// SAFETY: a component has one thread.
unsafe impl Sync for SnapshotAllocator {}

impl SnapshotAllocator {
    pub(super) const fn new() -> Self {
        Self(UnsafeCell::new(Heaps {
            phase: Phase::Plain,
            kept: Heap::empty(),
            transient: Heap::empty(),
            scratch: Dlmalloc::new_with_allocator(MemorySource::growing()),
        }))
    }

    /// Runs `load`, and returns which of its blocks were not freed.
    pub(super) fn record(&self, load: impl FnOnce()) -> LiveBlocks {
        // One bit for each of sixteen million blocks, many times as many as a load allocates.
        let alive = vec![0; 2 << 20];
        self.begin(
            Phase::Recording { alive, next: 0, live_bytes: 0, peak_bytes: 0 },
            0,
            RECORDING_HEAP_BYTES,
        );
        load();
        match self.end(Phase::Recorded) {
            Phase::Recording { mut alive, next, live_bytes, peak_bytes } => {
                // Short, because the second load reads the bits into memory that is part of the snapshot.
                alive.truncate(next.div_ceil(8));
                LiveBlocks { bits: alive, live_bytes, peak_bytes }
            }
            _ => LiveBlocks::default(),
        }
    }

    /// Runs `load` with the live blocks of its recording in a separate heap, then clears the memory of the others.
    /// Returns how many of the others were not freed after all. If there are any, that memory is not cleared, and the
    /// snapshot is not dense.
    pub(super) fn place(&self, live_blocks: LiveBlocks, load: impl FnOnce()) -> usize {
        let kept = live_blocks.live_bytes + live_blocks.live_bytes / 64 + PAGE_BYTES;
        // Half as much again, to allow for fragmentation.
        let transient = live_blocks.peak_bytes + live_blocks.peak_bytes / 2 + PAGE_BYTES;
        self.begin(Phase::Placing { live_blocks, next: 0, misplaced: 0 }, kept, transient);
        load();
        let Phase::Placing { misplaced, .. } = self.end(Phase::Plain) else { return 0 };
        if misplaced == 0 {
            let region = std::mem::replace(&mut self.heaps().transient, Heap::empty()).region;
            // SAFETY: the region was grown for the transient heap alone, and none of its blocks
            // is left.
            unsafe { ptr::write_bytes(region.pointer(), 0, region.length()) };
            SPARE_REGION.set(region);
        }
        misplaced
    }

    fn begin(&self, phase: Phase, kept: usize, transient: usize) {
        let heaps = self.heaps();
        heaps.kept = if kept > 0 { Heap::new(kept) } else { Heap::empty() };
        heaps.transient = Heap::new(transient);
        heaps.phase = phase;
    }

    fn end(&self, next: Phase) -> Phase {
        std::mem::replace(&mut self.heaps().phase, next)
    }

    #[expect(clippy::mut_from_ref, reason = "one thread, and no reference outlives its call")]
    fn heaps(&self) -> &mut Heaps {
        // SAFETY: a component has one thread, and no caller holds the reference while it calls
        // what may allocate.
        unsafe { &mut *self.0.get() }
    }
}

impl Heaps {
    fn allocate(&mut self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match &mut self.phase {
            Phase::Plain | Phase::Recorded => self.plain(size, align),
            Phase::Recording { alive, next, live_bytes, peak_bytes } => {
                let number = *next;
                *next += 1;
                *live_bytes += size + align + BLOCK_OVERHEAD_BYTES;
                *peak_bytes = (*peak_bytes).max(*live_bytes);
                if let Some(byte) = alive.get_mut(number / 8) {
                    *byte |= 1 << (number % 8);
                }
                // SAFETY: `malloc` takes any size and any power of two.
                let block = unsafe { self.transient.blocks.malloc(size + header(align), align) };
                if block.is_null() {
                    return block;
                }
                // SAFETY: the block is `header(align)` larger than asked for, and aligned to at
                // least 8 there.
                unsafe {
                    let block = block.add(header(align));
                    block.sub(HEADER_BYTES).cast::<usize>().write(number);
                    block
                }
            }
            Phase::Placing { live_blocks, next, misplaced } => {
                let number = *next;
                *next += 1;
                let is_live = live_blocks.contains(number);
                let heap = if is_live { &mut self.kept } else { &mut self.transient };
                // SAFETY: `malloc` takes any size and any power of two.
                let block = unsafe { heap.blocks.malloc(size, align) };
                if block.is_null() {
                    return self.plain(size, align);
                }
                // Counted down again when it is freed from this heap.
                *misplaced += usize::from(!is_live);
                block
            }
        }
    }

    /// Whether a block may be resized in place: not while blocks are counted.
    fn grows_in_place(&self, block: *mut u8) -> bool {
        matches!(self.phase, Phase::Plain | Phase::Recorded)
            && !self.kept.region.contains(block)
            && !self.transient.region.contains(block)
    }

    fn plain(&mut self, size: usize, align: usize) -> *mut u8 {
        // SAFETY: `malloc` takes any size and any power of two.
        unsafe { self.scratch.malloc(size, align) }
    }

    /// # Safety
    /// `block` came from [`Heaps::allocate`] with this layout, and is not used again.
    unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        let (size, align) = (layout.size(), layout.align());
        if self.kept.region.contains(block) {
            // SAFETY: a block in the kept region is the kept heap's.
            unsafe { self.kept.blocks.free(block, size, align) };
        } else if !self.transient.region.contains(block) {
            // SAFETY: a block in neither region is the scratch heap's.
            unsafe { self.scratch.free(block, size, align) };
        } else {
            // SAFETY: the caller's promise is the same, and the block is in the transient region.
            unsafe { self.free_transient(block, layout) };
        }
    }

    /// # Safety
    /// As for [`Heaps::free`]; the block is in the transient region.
    unsafe fn free_transient(&mut self, block: *mut u8, layout: Layout) {
        let (size, align) = (layout.size(), layout.align());
        match &mut self.phase {
            Phase::Recording { alive, live_bytes, .. } => {
                *live_bytes -= size + align + BLOCK_OVERHEAD_BYTES;
                // SAFETY: while recording, every block in the transient region has a header.
                unsafe {
                    let number = block.sub(HEADER_BYTES).cast::<usize>().read();
                    if let Some(byte) = alive.get_mut(number / 8) {
                        *byte &= !(1 << (number % 8));
                    }
                    let start = block.sub(header(align));
                    self.transient.blocks.free(start, size + header(align), align);
                }
            }
            // The block has a header, and the heap is closed.
            Phase::Recorded => {}
            Phase::Placing { misplaced, .. } => {
                *misplaced -= 1;
                // SAFETY: a block in the transient region is the transient heap's.
                unsafe { self.transient.blocks.free(block, size, align) };
            }
            // SAFETY: the same. The block has no header, because a recording never ends in this phase.
            Phase::Plain => unsafe { self.transient.blocks.free(block, size, align) },
        }
    }
}

/// The space before a block, rounded up to its alignment.
fn header(align: usize) -> usize {
    HEADER_BYTES.max(align)
}

// SAFETY: blocks come from dlmalloc, each is freed to the heap it came from, and none overlap.
unsafe impl GlobalAlloc for SnapshotAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.heaps().allocate(layout)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { self.heaps().free(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let heaps = self.heaps();
        if heaps.grows_in_place(block) {
            // SAFETY: the caller's promise is the same, and the block is the scratch heap's.
            return unsafe { heaps.scratch.realloc(block, layout.size(), layout.align(), size) };
        }
        // SAFETY: the caller's promise: `size` is not zero and does not overflow `align`.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};

    use super::{LiveBlocks, SnapshotAllocator};

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 8).expect("a layout")
    }

    /// Allocates a block, fills it, and frees it if asked to.
    fn block(heaps: &SnapshotAllocator, bytes: usize) -> *mut u8 {
        // SAFETY: the layout's size is not zero, and the block is as large as what is written.
        unsafe {
            let block = heaps.alloc(layout(bytes));
            assert!(!block.is_null());
            block.write_bytes(0xa5, bytes);
            block
        }
    }

    fn free(heaps: &SnapshotAllocator, block: *mut u8, bytes: usize) {
        // SAFETY: the block comes from `block` with the same size, and is not used again.
        unsafe { heaps.dealloc(block, layout(bytes)) };
    }

    #[test]
    fn a_block_that_fell_back_to_the_scratch_heap_is_not_misplaced_once_freed() {
        let recorder = SnapshotAllocator::new();
        let live_blocks = recorder.record(|| {
            block(&recorder, 1000);
            free(&recorder, block(&recorder, 1000), 1000);
        });
        let bytes = live_blocks.to_bytes();
        assert_eq!(bytes.len(), 17, "two numbers, and a bit for each of two blocks");
        let live_blocks = LiveBlocks::from_bytes(&bytes).expect("live blocks");
        let heaps = SnapshotAllocator::new();
        let misplaced = heaps.place(live_blocks, || {
            block(&heaps, 1000);
            // Larger than the heap of the blocks that are freed again.
            free(&heaps, block(&heaps, 10 << 20), 10 << 20);
        });
        assert_eq!(misplaced, 0);
    }

    #[test]
    fn a_block_that_was_freed_in_the_first_load_only_is_misplaced() {
        let recorder = SnapshotAllocator::new();
        let live_blocks = recorder.record(|| free(&recorder, block(&recorder, 1000), 1000));
        let heaps = SnapshotAllocator::new();
        assert_eq!(heaps.place(live_blocks, || _ = block(&heaps, 1000)), 1);
    }

    #[test]
    fn live_blocks_of_a_recording_may_be_freed_afterwards() {
        let heaps = SnapshotAllocator::new();
        let mut blocks = Vec::new();
        heaps.record(|| blocks.extend((0..100).map(|_| block(&heaps, 100))));
        // SAFETY: the block comes from `block` with the same size, and is replaced by the larger one.
        blocks[0] = unsafe { heaps.realloc(blocks[0], layout(100), 5000) };
        free(&heaps, blocks.swap_remove(0), 5000);
        for block in blocks {
            free(&heaps, block, 100);
        }
        let (one, other) = (block(&heaps, 100), block(&heaps, 100));
        assert!(one.addr().abs_diff(other.addr()) >= 100);
    }
}
