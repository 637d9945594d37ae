//! Computes products as dot products, for WebAssembly: reads weights and windows along the summed axis, four steps at a
//! time, and keeps a vector of partial sums for each output.
//!
//! Neither operand is broadcast, and a tile of two rows by four columns needs as many registers as there are:
//! Cranelift places all loads of a loop's body before its arithmetic, so that eight sums, six loads and a product are
//! the most that fit into sixteen. Multiplying and adding separately takes fewer instructions here than a fused
//! multiply-add, which Cranelift can only store into one of its factors.

use core::arch::wasm32::{f32x4_add, i32x4_shuffle, i64x2_shuffle};

use super::{Product, STEP};
use crate::instructions::Instructions;
use crate::lanes::Lanes;
use crate::lanes::wasm::Simd128;

/// The columns of a tile.
const TILE_COLUMNS: usize = 4;

/// The weights of this many columns stay in the cache while all rows pass.
const BLOCK_COLUMNS: usize = 32;

/// The multiple to which columns are padded.
pub(super) fn panel_columns(_: Instructions) -> usize {
    TILE_COLUMNS
}

/// Where the weight of a panel's column at one step of the sum is packed: column by column, and in each step by step.
pub(super) fn position(column: usize, step: usize, window: usize, _: usize) -> usize {
    column * window + step
}

/// The sums of `R` rows in one block of columns.
type Sums<const R: usize> = [[f32; BLOCK_COLUMNS]; R];

/// # Safety
/// The lengths were checked, and weights are packed as `[columns, window]`.
pub(super) unsafe fn product(product: &Product) {
    let rows = product.windows.count;
    for first in (0..product.packed.bias.len()).step_by(BLOCK_COLUMNS) {
        for row in (0..rows).step_by(2) {
            // SAFETY: the caller's promise; the rows are within the product.
            unsafe {
                if row + 1 < rows {
                    block::<2>(product, row, first);
                } else {
                    block::<1>(product, row, first);
                }
            }
        }
    }
}

/// Computes the outputs of `R` rows in the block of columns that begins at `first`.
///
/// # Safety
/// As [`product`]; the rows and the column are within the product.
unsafe fn block<const R: usize>(product: &Product, row: usize, first: usize) {
    let packed = product.packed;
    let end = packed.bias.len().min(first + BLOCK_COLUMNS);
    let mut outputs = [std::ptr::null_mut(); R];
    for (index, output) in outputs.iter_mut().enumerate() {
        *output = product.output.wrapping_add((row + index) * packed.columns + first);
    }
    // SAFETY: the caller's promise; `finish` stores whole vectors, which end within the row.
    unsafe {
        if packed.segments == 1 && product.residual.is_null() && end <= packed.columns {
            finish(product, product.rows::<R>(row), first, end - first, outputs);
        } else {
            sum_segments::<R>(product, row, first, end - first);
        }
    }
}

/// Computes the outputs of `R` rows in a block of columns from all segments, then adds the residual.
///
/// # Safety
/// As [`block`].
unsafe fn sum_segments<const R: usize>(
    product: &Product,
    row: usize,
    first: usize,
    columns: usize,
) {
    let packed = product.packed;
    let mut sums: Sums<R> = [[0.0; BLOCK_COLUMNS]; R];
    for sums in &mut sums {
        sums[..columns].copy_from_slice(&packed.bias[first..first + columns]);
    }
    let windows = product.rows::<R>(row);
    for segment in 0..packed.segments {
        let distance = segment * product.windows.segment_stride;
        let windows = windows.map(|window| window.wrapping_add(distance));
        // SAFETY: the caller's promise.
        unsafe { add(product, windows, (first, segment), columns, &mut sums) };
    }
    for (index, sums) in sums.iter().enumerate() {
        for column in (0..columns).step_by(TILE_COLUMNS) {
            // SAFETY: the row and the column are within the output.
            unsafe {
                let sums = Simd128::load(sums.as_ptr().add(column));
                product.store(row + index, first + column, sums);
            }
        }
    }
}

/// Computes and stores the outputs of windows of one segment.
///
/// # Safety
/// As [`block`]; `outputs` are valid for writes of `columns` numbers, a multiple of [`TILE_COLUMNS`].
// Not inlined, so that the loop has all registers to itself. Neither is `add`.
#[inline(never)]
#[allow(clippy::needless_range_loop, reason = "the loops are unrolled into registers")]
unsafe fn finish<const R: usize>(
    product: &Product,
    windows: [*const f32; R],
    first: usize,
    columns: usize,
    outputs: [*mut f32; R],
) {
    let length = product.packed.segment_length;
    let mut weights = product.packed.weights.as_ptr().wrapping_add(first * length);
    let bias = product.packed.bias.as_ptr().wrapping_add(first);
    for column in (0..columns).step_by(TILE_COLUMNS) {
        // SAFETY: the caller's promise.
        unsafe {
            let sums = tile::<R>(windows, weights, length, length);
            let bias = Simd128::load(bias.add(column));
            let activation = product.activation.vectors::<Simd128>();
            for row in 0..R {
                activation.apply(across(sums[row]).add(bias)).store(outputs[row].add(column));
            }
            weights = weights.add(TILE_COLUMNS * length);
        }
    }
}

/// Adds the products of one segment, `(first column, segment)`, to the sums of `columns` columns.
///
/// # Safety
/// As [`block`].
#[inline(never)]
#[allow(clippy::needless_range_loop, reason = "the loops are unrolled into registers")]
unsafe fn add<const R: usize>(
    product: &Product,
    windows: [*const f32; R],
    (first, segment): (usize, usize),
    columns: usize,
    sums: &mut Sums<R>,
) {
    let (pitch, length) = (product.window(), product.packed.segment_length);
    let position = first * pitch + segment * length;
    let mut weights = product.packed.weights.as_ptr().wrapping_add(position);
    for column in (0..columns).step_by(TILE_COLUMNS) {
        // SAFETY: the caller's promise.
        unsafe {
            let products = tile::<R>(windows, weights, length, pitch);
            for row in 0..R {
                let target = sums[row].as_mut_ptr().add(column);
                across(products[row]).add(Simd128::load(target)).store(target);
            }
            weights = weights.add(TILE_COLUMNS * pitch);
        }
    }
}

/// The products of `R` windows with the weights of four columns, which are `pitch` apart, as partial sums.
///
/// # Safety
/// The windows and the columns of weights are valid for reads of `length` numbers, a multiple of [`STEP`].
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "the loops are unrolled into registers")]
unsafe fn tile<const R: usize>(
    windows: [*const f32; R],
    weights: *const f32,
    length: usize,
    pitch: usize,
) -> [[Simd128; TILE_COLUMNS]; R] {
    let mut step = 0;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[Simd128::splat(0.0); TILE_COLUMNS]; R];
        while step < length {
            let mut numbers = [Simd128::splat(0.0); R];
            for row in 0..R {
                numbers[row] = Simd128::load(windows[row].add(step));
            }
            for column in 0..TILE_COLUMNS {
                let weight = Simd128::load(weights.add(column * pitch + step));
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
fn across([a, b, c, d]: [Simd128; TILE_COLUMNS]) -> Simd128 {
    let (a, b, c, d) = (a.0, b.0, c.0, d.0);
    // The sums of pairs of lanes, and of the pairs.
    let ab = f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let cd = f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    Simd128(f32x4_add(i64x2_shuffle::<0, 2>(ab, cd), i64x2_shuffle::<1, 3>(ab, cd)))
}
