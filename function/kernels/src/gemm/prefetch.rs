//! Fetches weights into the cache before they are needed.

use std::ops::Range;

use super::Product;
use crate::aligned::LINE;
use crate::lanes::Lanes;

/// Weights that the processor is asked to fetch while it computes with others. A network's weights do not fit into the
/// second-level cache, so each product would otherwise read its own from slower memory.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    next: *const f32,
    /// The numbers between one fetch and the next.
    stride: usize,
}

impl Ahead {
    /// Fetches nothing new: it asks for a line that is already cached, because an unmapped address would cost a
    /// page-table walk each time.
    pub(super) fn nothing(product: &Product) -> Self {
        Self { next: product.packed.weights.as_ptr(), stride: 0 }
    }

    /// What to fetch while a block of panels is multiplied with the `pass`th group of rows: a quarter of the next block
    /// with each of the first four groups, because memory is too slow for all of it with one.
    #[inline(always)]
    pub(super) fn new(product: &Product, pass: usize, block: Range<usize>, columns: usize) -> Self {
        let quarter = block.len() * product.window() * columns / 4;
        let next = block.end * product.window() * columns + pass * quarter;
        if pass < 4 && next + quarter <= product.packed.weights.len() {
            Self { next: product.packed.weights.as_ptr().wrapping_add(next), stride: columns }
        } else {
            Self::nothing(product)
        }
    }

    /// Fetches the next numbers: as many as there are columns in a panel.
    #[inline(always)]
    pub(super) fn fetch<L: Lanes, const V: usize>(&mut self) {
        for line in 0..(V * L::COUNT).div_ceil(LINE) {
            prefetch(self.next.wrapping_add(line * LINE));
        }
        self.next = self.next.wrapping_add(self.stride);
    }
}

/// Asks for a cache line, in the second-level cache. The pointer may be invalid.
#[inline(always)]
fn prefetch(pointer: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction, which every x86-64 has, reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(pointer.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = pointer;
}
