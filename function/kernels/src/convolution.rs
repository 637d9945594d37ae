//! A convolution over all channels of a channels-last image, computed by [`crate::gemm`].

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::gemm::{Epilogue, PackedWeights, STEP, Windows};
use crate::image::Image;
use crate::parallel::Rows;

/// A convolution without groups or dilation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Convolution {
    pub(crate) input: Image,
    pub(crate) output: Image,
    /// Rows of the kernel, and its columns.
    pub(crate) kernel: (usize, usize),
    /// Rows and columns from one window to the next.
    pub(crate) strides: (usize, usize),
    pub(crate) padding: Padding,
    pub(crate) weights: Arc<PackedWeights>,
    /// What is subtracted from the channels of the input before it is padded; empty for nothing.
    pub(crate) means: Arc<[f32]>,
}

/// The fewest windows of a band: a multiple of the rows of each instruction set's tiles.
const MIN_BAND_WINDOWS: usize = 96;

/// Rows and columns of zeros around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Padding {
    pub(crate) top: usize,
    pub(crate) bottom: usize,
    pub(crate) left: usize,
    pub(crate) right: usize,
}

impl Convolution {
    /// Computes `output`, `[height, width, channels]`, from `input`.
    ///
    /// # Panics
    /// If a slice does not have its image's volume.
    pub(crate) fn run(&self, input: &[f32], epilogue: Epilogue, output: &mut [f32]) {
        assert_eq!(input.len(), self.input.volume(), "input");
        assert_eq!(output.len(), self.output.volume(), "output");
        let residual = epilogue.residual.map_or(output.len(), <[f32]>::len);
        assert_eq!(residual, output.len(), "residual");
        let rows = Rows { count: self.output.height, operations: self.operations() };
        let row = self.output.width * self.output.channels;
        let epilogue_of = |rows: Range<usize>| {
            let residual = epilogue.residual.map(|all| &all[rows.start * row..rows.end * row]);
            Epilogue { residual, ..epilogue }
        };
        // Each band reads all weights, and fills tiles of several windows.
        let band =
            self.weights.bytes().max(MIN_BAND_WINDOWS * self.output.channels * size_of::<f32>());
        if self.is_pointwise() {
            return rows.compute_activated(output, epilogue.activation, band, |rows, output| {
                self.run_rows(input, rows.clone(), epilogue_of(rows), output);
            });
        }
        let (image, image_row) = self.padded(input);
        rows.compute_activated(output, epilogue.activation, band, |rows, output| {
            let line_stride = self.strides.0 * image_row;
            let windows = Windows {
                start: rows.start * line_stride,
                count: rows.len() * self.output.width,
                stride: self.strides.1 * self.input.channels,
                line: self.output.width,
                line_stride,
                segment_stride: image_row,
            };
            self.weights.multiply(&image, windows, epilogue_of(rows), output);
        });
    }

    /// Multiply-accumulates.
    pub(crate) fn operations(&self) -> usize {
        self.output.volume() * self.kernel.0 * self.kernel.1 * self.input.channels
    }

    /// Computes some rows of the output of a pointwise convolution, without the activation's function.
    ///
    /// # Panics
    /// If a slice does not have the length of its rows.
    pub(crate) fn run_rows(
        &self,
        input: &[f32],
        rows: Range<usize>,
        epilogue: Epilogue,
        output: &mut [f32],
    ) {
        let Image { width, channels, .. } = self.input;
        let (start, count) = (rows.start * width * channels, rows.len() * width);
        let windows = Windows {
            start,
            count,
            stride: channels,
            line: count,
            line_stride: 0,
            segment_stride: 0,
        };
        self.weights.multiply(input, windows, epilogue, output);
    }

    /// Whether each output depends on a single pixel, and the pixels are contiguous.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1)
            && self.strides == (1, 1)
            && self.padding == Padding::default()
            && self.means.is_empty()
            && self.input.channels.is_multiple_of(STEP)
    }

    /// The image with its padding, and the length of its rows. A copy also has room at its end, because the last
    /// segment may be read a few steps too far.
    fn padded<'i>(&self, input: &'i [f32]) -> (Cow<'i, [f32]>, usize) {
        let Image { height, width, channels } = self.input;
        let Padding { top, bottom, left, right } = self.padding;
        let segment = self.kernel.1 * channels;
        let is_read_in_place = self.padding == Padding::default() && self.means.is_empty();
        if is_read_in_place && segment.is_multiple_of(STEP) {
            return (Cow::Borrowed(input), width * channels);
        }
        let row = (left + width + right) * channels;
        let mut image = vec![0.0; (top + height + bottom) * row + STEP];
        // A row of means, because vectors of them can be subtracted.
        let means: Vec<f32> = self.means.iter().copied().cycle().take(width * channels).collect();
        let targets = image[top * row..].chunks_exact_mut(row);
        for (target, source) in targets.zip(input.chunks_exact(width * channels)) {
            let target = &mut target[left * channels..][..source.len()];
            if means.is_empty() {
                target.copy_from_slice(source);
            } else {
                subtract(source, &means, target);
            }
        }
        (Cow::Owned(image), row)
    }
}

/// Stores the differences of numbers.
fn subtract(numbers: &[f32], subtrahends: &[f32], differences: &mut [f32]) {
    let operands = numbers.iter().zip(subtrahends);
    for (difference, (number, subtrahend)) in differences.iter_mut().zip(operands) {
        *difference = number - subtrahend;
    }
}
