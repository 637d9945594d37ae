//! Products by dot products, for WebAssembly: weights and windows are both read along the sum, four steps at a time,
//! and each output has a vector of partial sums.
//!
//! Neither operand is broadcast, and a tile of two rows by four columns needs as many registers as there are:
//! Cranelift places all loads of a loop's body before its arithmetic, so that eight sums, six loads and a product are
//! the most that fit into sixteen. Multiplying and adding separately takes fewer instructions here than a fused
//! multiply-add, which Cranelift can only store into one of its factors.

use std::ops::Range;

use core::arch::wasm32::{f32x4_add, i32x4_shuffle, i64x2_shuffle};

use super::{Product, STEP};
use crate::instructions::Instructions;
use crate::lanes::Lanes;
use crate::lanes::wasm::Simd128;

/// The columns of a tile.
const COLUMNS: usize = 4;

/// Weights of about this size stay in the first-level cache while all rows pass.
const BLOCK_BYTES: usize = 24 << 10;

/// The multiple to which columns are padded.
pub(super) fn panel_columns(_: Instructions) -> usize {
    COLUMNS
}

/// Where the weight of a column at one step of the sum is packed: column by column, and in each step by step.
pub(super) fn position(column: usize, step: usize, window: usize, _: usize) -> usize {
    column * window + step
}

/// # Safety
/// The lengths were checked, and weights are packed as `[columns, window]`.
pub(super) unsafe fn product(product: &Product) {
    let rows = product.rows;
    let columns = product.packed.bias.len();
    let fitting = BLOCK_BYTES / (product.packed.window * size_of::<f32>());
    let block_columns = fitting.next_multiple_of(COLUMNS).max(4 * COLUMNS);
    for first in (0..columns).step_by(block_columns) {
        let columns = first..columns.min(first + block_columns);
        for row in (0..rows).step_by(2) {
            // SAFETY: the caller's promise; the rows are within the product.
            unsafe {
                if row + 1 < rows {
                    block::<2>(product, row, columns.clone());
                } else {
                    block::<1>(product, row, columns.clone());
                }
            }
        }
    }
}

/// Computes the outputs of `R` rows in a block of columns.
///
/// # Safety
/// As [`product`]; the rows and the columns are within the product.
unsafe fn block<const R: usize>(product: &Product, row: usize, block: Range<usize>) {
    let packed = product.packed;
    let mut windows = [std::ptr::null(); R];
    for (index, window) in windows.iter_mut().enumerate() {
        *window = product.row(row + index);
    }
    // SAFETY: the caller's promise; whole vectors are stored only if they end within the row.
    unsafe {
        if product.residual.is_null() && block.end <= packed.columns {
            let activation = product.activation.vectors::<Simd128>();
            let (output, columns) = (product.output.add(row * packed.columns), packed.columns);
            sums(product, windows, block, |index, column, sums| {
                activation.apply(sums).store(output.add(index * columns + column));
            });
        } else {
            sums(product, windows, block, |index, column, sums| {
                product.store(row + index, column, sums);
            });
        }
    }
}

/// Computes the sums of `R` windows in a range of columns, and calls `store` with each row, column and four sums.
///
/// # Safety
/// As [`block`].
// Not inlined, so that the registers are the loop's alone.
#[inline(never)]
#[allow(clippy::needless_range_loop, reason = "the loops are unrolled into registers")]
unsafe fn sums<const R: usize>(
    product: &Product,
    windows: [*const f32; R],
    columns: Range<usize>,
    store: impl Fn(usize, usize, Simd128),
) {
    let length = product.packed.window;
    let mut weights = product.packed.weights.as_ptr().wrapping_add(columns.start * length);
    for column in columns.step_by(COLUMNS) {
        // SAFETY: the caller's promise.
        unsafe {
            let products = tile::<R>(windows, weights, length);
            let bias = Simd128::load(product.packed.bias.as_ptr().add(column));
            for row in 0..R {
                store(row, column, across(products[row]).add(bias));
            }
            weights = weights.add(COLUMNS * length);
        }
    }
}

/// The products of `R` windows with the weights of four columns, as partial sums.
///
/// # Safety
/// The windows and the columns of weights are valid for reads of `length` numbers, a multiple of [`STEP`].
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the loops are unrolled into registers")]
unsafe fn tile<const R: usize>(
    windows: [*const f32; R],
    weights: *const f32,
    length: usize,
) -> [[Simd128; COLUMNS]; R] {
    let mut step = 0;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[Simd128::splat(0.0); COLUMNS]; R];
        while step < length {
            let mut numbers = [Simd128::splat(0.0); R];
            for row in 0..R {
                numbers[row] = Simd128::load(windows[row].add(step));
            }
            for column in 0..COLUMNS {
                let weight = Simd128::load(weights.add(column * length + step));
                for row in 0..R {
                    sums[row][column] = sums[row][column].add(weight.mul(numbers[row]));
                }
            }
            step += STEP;
        }
        sums
    }
}

/// The sum of each vector's lanes, in one lane each.
#[inline(always)]
fn across([a, b, c, d]: [Simd128; COLUMNS]) -> Simd128 {
    let (a, b, c, d) = (a.0, b.0, c.0, d.0);
    // The sums of pairs of lanes, and of the pairs.
    let ab = f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let cd = f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    Simd128(f32x4_add(i64x2_shuffle::<0, 2>(ab, cd), i64x2_shuffle::<1, 3>(ab, cd)))
}
