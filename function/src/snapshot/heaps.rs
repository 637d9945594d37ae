//! The component's allocator: two heaps, so that what the snapshot keeps lies together and what
//! loading a model leaves behind is gone.
//!
//! Loading a model allocates several times what is left of it in the end, and one heap would leave
//! the model scattered over all of it: a snapshot three times as large, or too sparse for wasmtime
//! to map. Which blocks will be left is not known when they are allocated; but loading the same
//! files twice allocates the same blocks in the same order. So the first load *records* which
//! blocks are never freed, and a second one, in a fresh instance, *places* those in a heap of their
//! own, dense and below the other; what is then left of the other is zeroed, and serves requests.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::{arch::wasm32, ptr};

use dlmalloc::{Allocator, Dlmalloc};

const PAGE_BYTES: usize = 64 << 10;

/// In a recording, room before each block for its number and size.
const HEADER_BYTES: usize = 16;

/// What dlmalloc may need beside a block of a given size.
const BLOCK_OVERHEAD_BYTES: usize = 16;

/// Linear memory for a recording, which no snapshot is taken of.
const RECORDING_HEAP_BYTES: usize = 1 << 30;

/// Which blocks of a load are never freed, by the order of their allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survivors {
    /// A bit for each block.
    bits: Vec<u8>,
    /// Room that the survivors need, in bytes.
    live_bytes: usize,
    /// The most that all blocks needed at once, in bytes.
    peak_bytes: usize,
}

impl Survivors {
    /// For the file between the two loads: `live_bytes` and `peak_bytes` as 8 bytes each, then the bits.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let numbers =
            [self.live_bytes, self.peak_bytes].map(|number| (number as u64).to_le_bytes());
        [numbers.concat().as_slice(), &self.bits].concat()
    }

    /// Reads what [`Survivors::to_bytes`] wrote; `None` for anything shorter.
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

/// What the allocator is doing.
enum Phase {
    /// One heap, as anywhere else.
    Plain,
    /// The first load: `alive` has a bit for each block that is not freed yet.
    Recording { alive: Vec<u8>, next: usize, live_bytes: usize, peak_bytes: usize },
    /// The second load.
    Placing { survivors: Survivors, next: usize, misplaced: usize },
}

/// A region of linear memory: its first address, and the one after its last.
#[derive(Clone, Copy)]
struct Region {
    start: usize,
    end: usize,
}

impl Region {
    const EMPTY: Self = Self { start: 0, end: 0 };

    /// Grows the linear memory; `None` where it may not grow.
    fn grow(bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let before = wasm32::memory_grow(0, pages);
        let start = before.checked_mul(PAGE_BYTES)?;
        Some(Self { start, end: start + pages * PAGE_BYTES })
    }

    fn contains<T>(self, pointer: *mut T) -> bool {
        (self.start..self.end).contains(&pointer.addr())
    }

    fn pointer(self) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start)
    }

    fn length(self) -> usize {
        self.end - self.start
    }
}

/// Where a heap gets its memory from: a region of its own, then, where it `grows`, more.
struct Source {
    region: Cell<Region>,
    grows: bool,
}

/// What is left of the linear memory that loading used, for the scratch heap.
struct Spare(Cell<Region>);

// SAFETY: a component has one thread.
unsafe impl Sync for Spare {}

static SPARE: Spare = Spare(Cell::new(Region::EMPTY));

impl Source {
    const fn of(region: Region) -> Self {
        Self { region: Cell::new(region), grows: false }
    }

    const fn growing() -> Self {
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
        let spare = SPARE.0.replace(Region::EMPTY);
        if spare.length() >= size && spare.length() > 0 {
            return Some(spare);
        }
        Region::grow(size)
    }
}

// SAFETY: every region comes from `memory.grow`, is used by nothing else, and is handed out once.
unsafe impl Allocator for Source {
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

/// A heap, and the region its blocks lie in.
struct Heap {
    blocks: Dlmalloc<Source>,
    region: Region,
}

impl Heap {
    const fn empty() -> Self {
        Self {
            blocks: Dlmalloc::new_with_allocator(Source::of(Region::EMPTY)),
            region: Region::EMPTY,
        }
    }

    /// A heap in newly grown memory of at least this size; empty where there is none.
    fn new(bytes: usize) -> Self {
        let region = Region::grow(bytes).unwrap_or(Region::EMPTY);
        Self { blocks: Dlmalloc::new_with_allocator(Source::of(region)), region }
    }
}

struct Heaps {
    phase: Phase,
    /// What the snapshot keeps.
    kept: Heap,
    /// What a load frees again.
    transient: Heap,
    /// All else, and all that requests need.
    scratch: Dlmalloc<Source>,
}

/// The component's global allocator.
pub(super) struct TwoHeaps(UnsafeCell<Heaps>);

// SAFETY: a component has one thread.
unsafe impl Sync for TwoHeaps {}

impl TwoHeaps {
    pub(super) const fn new() -> Self {
        Self(UnsafeCell::new(Heaps {
            phase: Phase::Plain,
            kept: Heap::empty(),
            transient: Heap::empty(),
            scratch: Dlmalloc::new_with_allocator(Source::growing()),
        }))
    }

    /// Runs `load`, and tells which of its blocks were left.
    pub(super) fn record(&self, load: impl FnOnce()) -> Survivors {
        // A bit each for sixteen million blocks, which is many times what a load takes.
        let alive = vec![0; 2 << 20];
        self.begin(
            Phase::Recording { alive, next: 0, live_bytes: 0, peak_bytes: 0 },
            0,
            RECORDING_HEAP_BYTES,
        );
        load();
        match self.end() {
            Phase::Recording { alive, live_bytes, peak_bytes, .. } => {
                Survivors { bits: alive, live_bytes, peak_bytes }
            }
            _ => Survivors::default(),
        }
    }

    /// Runs `load` with the survivors of its recording in a heap of their own, then empties the
    /// memory of the others. Tells how many blocks are left among those others after all: the
    /// snapshot is dense only where there is none.
    pub(super) fn place(&self, survivors: Survivors, load: impl FnOnce()) -> usize {
        let kept = survivors.live_bytes + survivors.live_bytes / 64 + PAGE_BYTES;
        // Half as much again, for what fragmentation wastes.
        let transient = survivors.peak_bytes + survivors.peak_bytes / 2 + PAGE_BYTES;
        self.begin(Phase::Placing { survivors, next: 0, misplaced: 0 }, kept, transient);
        load();
        let Phase::Placing { misplaced, .. } = self.end() else { return 0 };
        if misplaced == 0 {
            let region = std::mem::replace(&mut self.heaps().transient, Heap::empty()).region;
            // SAFETY: the region was grown for the transient heap alone, and none of its blocks
            // is left.
            unsafe { ptr::write_bytes(region.pointer(), 0, region.length()) };
            SPARE.0.set(region);
        }
        misplaced
    }

    fn begin(&self, phase: Phase, kept: usize, transient: usize) {
        let heaps = self.heaps();
        heaps.kept = if kept > 0 { Heap::new(kept) } else { Heap::empty() };
        heaps.transient = Heap::new(transient);
        heaps.phase = phase;
    }

    fn end(&self) -> Phase {
        std::mem::replace(&mut self.heaps().phase, Phase::Plain)
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
            Phase::Plain => self.plain(size, align),
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
            Phase::Placing { survivors, next, misplaced } => {
                let number = *next;
                *next += 1;
                let heap =
                    if survivors.contains(number) { &mut self.kept } else { &mut self.transient };
                // SAFETY: `malloc` takes any size and any power of two.
                let block = unsafe { heap.blocks.malloc(size, align) };
                if !survivors.contains(number) {
                    *misplaced += 1;
                }
                if block.is_null() { self.plain(size, align) } else { block }
            }
        }
    }

    /// Whether a block may be resized where it is: not while blocks are counted.
    fn grows_in_place(&self, block: *mut u8) -> bool {
        matches!(self.phase, Phase::Plain)
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
        } else if let Phase::Recording { alive, live_bytes, .. } = &mut self.phase {
            *live_bytes -= size + align + BLOCK_OVERHEAD_BYTES;
            // SAFETY: while recording, every block in the transient region has a header.
            unsafe {
                let number = block.sub(HEADER_BYTES).cast::<usize>().read();
                if let Some(byte) = alive.get_mut(number / 8) {
                    *byte &= !(1 << (number % 8));
                }
                self.transient.blocks.free(block.sub(header(align)), size + header(align), align);
            }
        } else {
            if let Phase::Placing { misplaced, .. } = &mut self.phase {
                *misplaced -= 1;
            }
            // SAFETY: a block in the transient region is the transient heap's.
            unsafe { self.transient.blocks.free(block, size, align) };
        }
    }
}

/// Room before a block, kept a multiple of its alignment.
fn header(align: usize) -> usize {
    HEADER_BYTES.max(align)
}

// SAFETY: blocks come from dlmalloc, each is freed to the heap it came from, and none overlap.
unsafe impl GlobalAlloc for TwoHeaps {
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
