//! Computes products as outer products, on the host's processors: multiplies each number of a window by one row of a
//! panel of weights.

use std::ops::Range;

use super::prefetch::Ahead;
use super::{Product, STEP};
use crate::instructions::Instructions;
use crate::lanes::{Lanes, Lanes4};

/// The columns of a panel of weights.
pub(super) fn panel_columns(instructions: Instructions) -> usize {
    match instructions {
        Instructions::Lanes4 => 2 * 4,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => 2 * 8,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => 2 * 16,
    }
}

/// Where the weight of a panel's column at one step of the sum is packed: step by step.
pub(super) fn position(column: usize, step: usize, _: usize, panel: usize) -> usize {
    step * panel + column
}

/// # Safety
/// The lengths were checked, and weights are packed for instructions that the processor has.
pub(super) unsafe fn product(product: &Product) {
    // SAFETY: the caller's promise.
    unsafe {
        match product.packed.instructions {
            Instructions::Lanes4 => tiled::<Lanes4, 4, 2>(product),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2(product),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => avx512(product),
        }
    }
}

/// # Safety
/// As [`product`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(product: &Product) {
    // SAFETY: the caller's promise.
    unsafe { tiled::<crate::lanes::x86::Avx2, 6, 2>(product) }
}

/// # Safety
/// As [`product`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(product: &Product) {
    // SAFETY: the caller's promise.
    unsafe { tiled::<crate::lanes::x86::Avx512, 12, 2>(product) }
}

/// Weights of about this size are kept in the cache while all rows pass.
const WEIGHT_BLOCK_BYTES: usize = 64 << 10;

/// Computes a product in tiles of `R` rows by `V` vectors.
///
/// # Safety
/// The lengths were checked, weights are packed in panels of `V` vectors, and the processor has the instruction set
/// of `L`.
#[inline(always)]
unsafe fn tiled<L: Lanes, const R: usize, const V: usize>(product: &Product) {
    let panel = V * L::COUNT;
    let panels = product.packed.bias.len() / panel;
    let block = (WEIGHT_BLOCK_BYTES / (product.window() * panel * size_of::<f32>())).max(1);
    let rows = product.windows.count;
    let mut first = 0;
    while first < panels {
        let end = panels.min(first + block);
        let mut row = 0;
        // SAFETY: the caller's promise; each tile ends at or before the last row.
        unsafe {
            while row + R <= rows {
                let ahead = Ahead::new(product, row / R, first..end, panel);
                tiles::<L, R, V>(product, row, first..end, ahead);
                row += R;
            }
            let ahead = Ahead::nothing(product);
            if row + 4 <= rows {
                tiles::<L, 4, V>(product, row, first..end, ahead);
                row += 4;
            }
            if row + 2 <= rows {
                tiles::<L, 2, V>(product, row, first..end, ahead);
                row += 2;
            }
            while row < rows {
                tiles::<L, 1, V>(product, row, first..end, ahead);
                row += 1;
            }
        }
        first = end;
    }
}

/// Computes the tiles of `R` rows and a block of panels.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn tiles<L: Lanes, const R: usize, const V: usize>(
    product: &Product,
    row: usize,
    panels: Range<usize>,
    mut ahead: Ahead,
) {
    for panel in panels {
        // SAFETY: the caller's promise.
        unsafe {
            // If the last panel is half empty, only one half is computed.
            if product.packed.columns <= panel * V * L::COUNT + L::COUNT {
                tile::<L, R, 1, V>(product, row, panel, &mut ahead);
            } else {
                tile::<L, R, V, V>(product, row, panel, &mut ahead);
            }
        }
    }
}

/// Computes a tile of `R` rows and the first `V` of a panel's `P` vectors.
///
/// # Safety
/// As [`product`]; the rows and the panel are within the product.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "a closure would not be compiled for the instructions"
)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize, const P: usize>(
    product: &Product,
    row: usize,
    panel: usize,
    ahead: &mut Ahead,
) {
    let (first, columns) = (panel * P * L::COUNT, product.packed.columns);
    // SAFETY: the caller's promise; the tile is whole where it is stored as one.
    unsafe {
        let sums = sums::<L, R, V, P>(product, row, panel, ahead);
        if first + V * L::COUNT <= columns {
            return store(product, row * columns + first, sums);
        }
        // Copied, so that only the copy is in memory: this loop is too long to be unrolled.
        let sums = std::hint::black_box(sums);
        for index in 0..R {
            for vector in 0..V {
                let column = first + vector * L::COUNT;
                if column < columns {
                    product.store(row + index, column, sums[index][vector]);
                }
            }
        }
    }
}

/// The sums of a tile, with the bias.
///
/// # Safety
/// As [`tile`].
// Loops over arrays, rather than closures: a closure would not be compiled for the instruction set.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the loops are unrolled into registers")]
unsafe fn sums<L: Lanes, const R: usize, const V: usize, const P: usize>(
    product: &Product,
    row: usize,
    panel: usize,
    ahead: &mut Ahead,
) -> [[L; V]; R] {
    let columns = P * L::COUNT;
    let packed = product.packed;
    // SAFETY: the caller's promise.
    unsafe {
        let bias = packed.bias.as_ptr().add(panel * columns);
        let mut weights = packed.weights.as_ptr().add(panel * product.window() * columns);
        let mut sums = [[L::splat(0.0); V]; R];
        for vector in 0..V {
            let bias = L::load(bias.add(vector * L::COUNT));
            for row in 0..R {
                sums[row][vector] = bias;
            }
        }
        let mut rows = product.rows::<R>(row);
        for row in 0..R {
            rows[row] = opaque(rows[row]);
        }
        for _ in 0..packed.segments {
            for step in (0..packed.segment_length).step_by(STEP) {
                ahead.fetch::<L, P>();
                for offset in 0..STEP {
                    let mut weight = [L::splat(0.0); V];
                    for vector in 0..V {
                        weight[vector] = L::load(weights.add(offset * columns + vector * L::COUNT));
                    }
                    for row in 0..R {
                        let number = L::splat(*rows[row].add(step + offset));
                        for vector in 0..V {
                            sums[row][vector] = number.mul_add(weight[vector], sums[row][vector]);
                        }
                    }
                }
                weights = weights.add(STEP * columns);
            }
            for row in 0..R {
                rows[row] = rows[row].wrapping_add(product.windows.segment_stride);
            }
        }
        sums
    }
}

/// Adds the residual and applies the activation to the sums of a tile without missing columns, and stores them from
/// `start` on.
///
/// # Safety
/// As [`tile`]; all columns of the tile are within the output.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the loops are unrolled into registers")]
unsafe fn store<L: Lanes, const R: usize, const V: usize>(
    product: &Product,
    start: usize,
    mut sums: [[L; V]; R],
) {
    let columns = product.packed.columns;
    // SAFETY: the caller's promise.
    unsafe {
        if !product.residual.is_null() {
            for row in 0..R {
                let residual = product.residual.add(start + row * columns);
                for vector in 0..V {
                    let residual = L::load(residual.add(vector * L::COUNT));
                    sums[row][vector] = sums[row][vector].add(residual);
                }
            }
        }
        let activation = product.activation.vectors::<L>();
        for row in 0..R {
            let target = product.output.add(start + row * columns);
            for vector in 0..V {
                activation.apply(sums[row][vector]).store(target.add(vector * L::COUNT));
            }
        }
    }
}

/// The pointer, in a register of its own: otherwise the compiler computes each row's address from the one before, and
/// that takes as long as the arithmetic.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through it here")]
fn opaque(mut pointer: *const f32) -> *const f32 {
    // SAFETY: there are no instructions.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) pointer, options(pure, nomem, nostack, preserves_flags));
    }
    pointer
}
