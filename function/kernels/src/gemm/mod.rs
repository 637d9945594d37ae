//! The kernel for all other convolutions: multiplies the image's windows by the weights.
//!
//! A window is read where it lies in the image, as one segment for each row of the convolution's kernel, so nothing
//! is copied or packed at run time. The weights are packed once, in panels of columns. Each tile of the product stays
//! in registers while the sum over the window is computed; bias, residual and activation are applied as it is stored.

#[cfg_attr(target_arch = "wasm32", path = "dot.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "outer.rs")]
mod form;
#[cfg(not(target_arch = "wasm32"))]
mod prefetch;

use crate::activation::Activation;
use crate::aligned::Aligned;
use crate::instructions::Instructions;
use crate::lanes::Lanes;

/// The steps of the sum that a kernel takes at once. Segments are padded to a multiple of it with zero weights.
pub(crate) const STEP: usize = 4;

/// Weights, packed for one instruction set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PackedWeights {
    instructions: Instructions,
    /// The number of outputs of a window.
    columns: usize,
    segments: usize,
    /// The length of a segment in `weights`: a multiple of [`STEP`].
    segment_length: usize,
    weights: Aligned,
    /// Padded with zeros to whole panels.
    bias: Vec<f32>,
}

/// Weights are numbers. So `Arc`s of the same weights are equal without a look at them, which tract's optimiser asks
/// for again and again.
impl Eq for PackedWeights {}

/// The windows of an image, from which a product is computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Position of the first window in the image.
    pub(crate) start: usize,
    pub(crate) count: usize,
    /// The distance from one window to the next in its line.
    pub(crate) stride: usize,
    /// The windows of a line: a row of the output.
    pub(crate) line: usize,
    /// The distance from one line to the next.
    pub(crate) line_stride: usize,
    /// The distance from one segment of a window to the next.
    pub(crate) segment_stride: usize,
}

/// Weights before packing: `[columns, segments, segment_length]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'w> {
    pub(crate) values: &'w [f32],
    /// One for each column.
    pub(crate) bias: &'w [f32],
    pub(crate) segments: usize,
    pub(crate) segment_length: usize,
}

/// What happens to a sum before it is stored. The activation's function follows later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epilogue<'r> {
    /// Added to the sums, in the shape of the output.
    pub(crate) residual: Option<&'r [f32]>,
    pub(crate) activation: Activation,
}

impl Windows {
    /// How far the furthest window is from the first; there is at least one.
    fn furthest(self) -> usize {
        let lines = (self.count - 1) / self.line;
        lines * self.line_stride + (self.line.min(self.count) - 1) * self.stride
    }
}

impl PackedWeights {
    /// Packs weights for an instruction set.
    pub(crate) fn new(weights: Weights, instructions: Instructions) -> Self {
        let columns = weights.bias.len();
        let segment_length = weights.segment_length.next_multiple_of(STEP);
        let window = weights.segments * segment_length;
        let panel = form::panel_columns(instructions);
        let padded_columns = columns.next_multiple_of(panel);
        let mut packed = Aligned::zeros(padded_columns * window);
        for (index, packed) in packed.chunks_exact_mut(panel * window).enumerate() {
            let first = index * panel;
            let columns = panel.min(columns - first);
            for segment in 0..weights.segments {
                for k in 0..weights.segment_length {
                    let step = segment * segment_length + k;
                    for column in 0..columns {
                        let start = (first + column) * weights.segments + segment;
                        let value = weights.values[start * weights.segment_length + k];
                        packed[form::position(column, step, window, panel)] = value;
                    }
                }
            }
        }
        let mut bias = weights.bias.to_vec();
        bias.resize(padded_columns, 0.0);
        let segments = weights.segments;
        Self { instructions, columns, segments, segment_length, weights: packed, bias }
    }

    /// The memory that the weights take.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.weights)
    }

    /// Computes `output`, `[windows, columns]`, from the windows of `image`, without the activation's function.
    ///
    /// # Panics
    /// If a window ends outside of the image, or a slice has the wrong length.
    pub(crate) fn multiply(
        &self,
        image: &[f32],
        windows: Windows,
        epilogue: Epilogue,
        output: &mut [f32],
    ) {
        let Epilogue { residual, activation } = epilogue;
        let Windows { start, count, .. } = windows;
        assert_eq!(output.len(), count * self.columns, "output");
        assert!(residual.is_none_or(|residual| residual.len() == output.len()), "residual");
        if count == 0 {
            return;
        }
        let last = start + windows.furthest() + (self.segments - 1) * windows.segment_stride;
        assert!(last + self.segment_length <= image.len(), "the last window");
        let product = Product {
            packed: self,
            image: &image[start..],
            windows,
            residual: residual.map_or(std::ptr::null(), <[f32]>::as_ptr),
            activation,
            output: output.as_mut_ptr(),
        };
        // SAFETY: the lengths were checked above, and weights are packed for instructions that the processor has.
        unsafe { form::product(&product) }
    }
}

/// The operands of a product, whose lengths [`PackedWeights::multiply`] has checked.
struct Product<'p> {
    packed: &'p PackedWeights,
    /// The image, from the first window on.
    image: &'p [f32],
    windows: Windows,
    /// Null if there is none.
    residual: *const f32,
    activation: Activation,
    output: *mut f32,
}

impl Product<'_> {
    /// The steps of the sum.
    fn window(&self) -> usize {
        self.packed.segments * self.packed.segment_length
    }

    /// The starts of `R` windows in the image, from `row` on.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure would not be compiled for the instructions"
    )]
    fn rows<const R: usize>(&self, row: usize) -> [*const f32; R] {
        let Windows { count, stride, line, line_stride, .. } = self.windows;
        let mut rows = [self.image.as_ptr(); R];
        if line >= count {
            for index in 0..R {
                rows[index] = rows[index].wrapping_add((row + index) * stride);
            }
            return rows;
        }
        let (mut y, mut x) = (row / line, row % line);
        for index in 0..R {
            rows[index] = rows[index].wrapping_add(y * line_stride + x * stride);
            x += 1;
            if x == line {
                (y, x) = (y + 1, 0);
            }
        }
        rows
    }

    /// Adds the residual and applies the activation to the sums of one row, from `column` on, and stores them. The
    /// sums beyond the last column are dropped.
    ///
    /// # Safety
    /// The row and the column are within the output, and the processor has the instruction set of `L`.
    #[inline(always)]
    unsafe fn store<L: Lanes>(&self, row: usize, column: usize, sums: L) {
        let columns = self.packed.columns;
        let position = row * columns + column;
        // SAFETY: whole vectors are read and written only if they end within the row.
        unsafe {
            let activation = self.activation.vectors::<L>();
            if column + L::COUNT <= columns {
                let mut sums = sums;
                if !self.residual.is_null() {
                    sums = sums.add(L::load(self.residual.add(position)));
                }
                activation.apply(sums).store(self.output.add(position));
            } else {
                let mut numbers = [0.0_f32; MAX_LANES];
                let count = columns - column;
                if !self.residual.is_null() {
                    std::ptr::copy_nonoverlapping(
                        self.residual.add(position),
                        numbers.as_mut_ptr(),
                        count,
                    );
                }
                let sums = activation.apply(sums.add(L::load(numbers.as_ptr())));
                sums.store(numbers.as_mut_ptr());
                std::ptr::copy_nonoverlapping(numbers.as_ptr(), self.output.add(position), count);
            }
        }
    }
}

/// The most lanes of any instruction set.
const MAX_LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::{Epilogue, PackedWeights, Weights, Windows};
    use crate::activation::Activation;
    use crate::instructions::Instructions;

    /// Small whole numbers, so that sums are exact in any order.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7919 + seed) % 17) as f32 - 8.0).collect()
    }

    /// The product of `count` windows of `length` numbers and `columns` columns, plus a residual.
    fn product(image: &[f32], weights: Weights, count: usize, residual: &[f32]) -> Vec<f32> {
        let (length, columns) = (weights.segment_length, weights.bias.len());
        let mut output = residual.to_vec();
        for (row, output) in output.chunks_exact_mut(columns).enumerate().take(count) {
            let window = &image[row * length..][..length];
            for (column, output) in output.iter_mut().enumerate() {
                let weight = &weights.values[column * length..][..length];
                let sum: f32 = window.iter().zip(weight).map(|(a, b)| a * b).sum();
                *output += sum + weights.bias[column];
            }
        }
        output
    }

    /// Other tests run only the widest instruction set of the machine.
    #[test]
    fn every_instruction_set_gives_the_same_product() {
        let sizes = [(1, 4, 1), (3, 8, 12), (12, 16, 16), (25, 12, 33), (61, 216, 140), (7, 4, 24)];
        for (count, length, columns) in sizes {
            let (values, bias) = (numbers(columns * length, 1), numbers(columns, 2));
            let (image, residual) = (numbers(count * length, 3), numbers(count * columns, 4));
            let weights =
                Weights { values: &values, bias: &bias, segments: 1, segment_length: length };
            let windows = Windows {
                start: 0,
                count,
                stride: length,
                line: count,
                line_stride: 0,
                segment_stride: 0,
            };
            let expected = product(&image, weights, count, &residual);
            for instructions in Instructions::available() {
                let mut output = vec![0.0; count * columns];
                let activation = Activation::IDENTITY;
                let epilogue = Epilogue { residual: Some(&residual), activation };
                let packed = PackedWeights::new(weights, instructions);
                packed.multiply(&image, windows, epilogue, &mut output);
                assert!(output == expected, "{instructions:?}, {count}x{length}x{columns}");
            }
        }
    }
}
