//! The kernel for depthwise convolutions that `depthwise.rs` does not handle: windows of any size, stride and padding,
//! without dilation, on channels-last images.
//!
//! Each window is read anew, four vectors of channels at a time, so that four sums are under way at once.

use std::ops::Range;
use std::sync::Arc;

use crate::activation::Activation;
use crate::convolution::Padding;
use crate::image::Image;
use crate::instructions::Instructions;
use crate::lanes::{Lanes, Lanes4, Two};
use crate::parallel::Rows;

/// A depthwise convolution without dilation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LargeDepthwise {
    pub(crate) input: Image,
    pub(crate) output: Image,
    /// Rows of the kernel, and its columns.
    pub(crate) kernel: (usize, usize),
    /// Rows and columns from one window to the next.
    pub(crate) strides: (usize, usize),
    pub(crate) padding: Padding,
    /// `[kernel rows, kernel columns, channels]`
    pub(crate) weights: Arc<[f32]>,
    /// `[channels]`
    pub(crate) bias: Arc<[f32]>,
}

/// The channels that a kernel computes, from `first` up to `end`.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    end: usize,
    activation: Activation,
}

/// The part of a window that lies in the image, along one axis.
struct Overlap {
    /// The rows or columns of the kernel.
    taps: Range<usize>,
    /// The row or column of the image under the first of them.
    first: usize,
}

impl Overlap {
    fn new(window: usize, stride: usize, padding: usize, taps: usize, size: usize) -> Self {
        let start = window * stride;
        let skipped = padding.saturating_sub(start).min(taps);
        let end = (size + padding).saturating_sub(start).min(taps);
        Self { taps: skipped..end.max(skipped), first: (start + skipped).saturating_sub(padding) }
    }
}

impl LargeDepthwise {
    /// Computes `output`, `[height, width, channels]`, from `input`.
    ///
    /// # Panics
    /// If a slice does not have its image's volume.
    pub(crate) fn run(&self, input: &[f32], activation: Activation, output: &mut [f32]) {
        let channels = self.input.channels;
        assert_eq!(input.len(), self.input.volume(), "input");
        assert_eq!(output.len(), self.output.volume(), "output");
        assert_eq!(self.output.channels, channels, "channels");
        assert_eq!(self.weights.len(), self.kernel.0 * self.kernel.1 * channels, "weights");
        assert_eq!(self.bias.len(), channels, "bias");
        let rows = Rows { count: self.output.height, operations: self.operations() };
        rows.compute_activated(output, activation, 0, |rows, output| {
            self.run_rows(input, rows, activation, output);
        });
    }

    /// Multiply-accumulates.
    pub(crate) fn operations(&self) -> usize {
        self.output.volume() * self.kernel.0 * self.kernel.1
    }

    fn run_rows(
        &self,
        input: &[f32],
        rows: Range<usize>,
        activation: Activation,
        output: &mut [f32],
    ) {
        let channels = self.input.channels;
        let mut first = 0;
        for instructions in Instructions::available() {
            let end = channels - (channels - first) % instructions.lanes();
            let block = Block { first, end, activation };
            let rows = rows.clone();
            // SAFETY: `run` has checked the lengths, and the processor has the instructions.
            unsafe {
                match instructions {
                    Instructions::Lanes4 => self.image::<Lanes4>(input, rows, output, block),
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx2 => avx2(self, input, rows, output, block),
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx512 => avx512(self, input, rows, output, block),
                }
            }
            first = end;
        }
        assert_eq!(first, channels, "the channels are a multiple of four");
    }

    /// # Safety
    /// The slices have the lengths that [`LargeDepthwise::run`] checks, the number of channels in the block is a
    /// multiple of the lanes, and the processor has the instruction set of `L`.
    #[inline(always)]
    unsafe fn image<L: Lanes>(
        &self,
        input: &[f32],
        rows: Range<usize>,
        output: &mut [f32],
        block: Block,
    ) {
        let Image { width, channels, .. } = self.output;
        for (y, row) in rows.zip(output.chunks_exact_mut(width * channels)) {
            let Self { strides, padding, kernel, .. } = self;
            let down = Overlap::new(y, strides.0, padding.top, kernel.0, self.input.height);
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let across = Overlap::new(x, strides.1, padding.left, kernel.1, self.input.width);
                let mut channel = block.first;
                // SAFETY: the caller's promise; the vectors end at or before the block's end.
                unsafe {
                    while channel + Two::<Two<L>>::COUNT <= block.end {
                        let sums = self.sums::<Two<Two<L>>>(input, &down, &across, channel);
                        let activation = block.activation.vectors();
                        activation.apply(sums).store(pixel.as_mut_ptr().add(channel));
                        channel += Two::<Two<L>>::COUNT;
                    }
                    while channel < block.end {
                        let sums = self.sums::<L>(input, &down, &across, channel);
                        let activation = block.activation.vectors();
                        activation.apply(sums).store(pixel.as_mut_ptr().add(channel));
                        channel += L::COUNT;
                    }
                }
            }
        }
    }

    /// The sums of one window, with the bias.
    ///
    /// # Safety
    /// As [`LargeDepthwise::image`]; `channel` and the lanes after it are within the channels.
    #[inline(always)]
    unsafe fn sums<L: Lanes>(
        &self,
        input: &[f32],
        down: &Overlap,
        across: &Overlap,
        channel: usize,
    ) -> L {
        let Image { width, channels, .. } = self.input;
        // SAFETY: the caller's promise; what is read lies within the image and the kernel.
        unsafe {
            let mut sums = L::load(self.bias.as_ptr().add(channel));
            for (index, tap) in down.taps.clone().enumerate() {
                let pixel = (down.first + index) * width + across.first;
                let weight = tap * self.kernel.1 + across.taps.start;
                // It lies outside if the window does, and is not read then.
                let mut pixel = input.as_ptr().wrapping_add(pixel * channels + channel);
                let mut weight = self.weights.as_ptr().wrapping_add(weight * channels + channel);
                for _ in across.taps.clone() {
                    sums = L::load(pixel).mul_add(L::load(weight), sums);
                    pixel = pixel.wrapping_add(channels);
                    weight = weight.wrapping_add(channels);
                }
            }
            sums
        }
    }
}

/// # Safety
/// As [`LargeDepthwise::image`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(
    convolution: &LargeDepthwise,
    input: &[f32],
    rows: Range<usize>,
    output: &mut [f32],
    block: Block,
) {
    // SAFETY: the caller's promise.
    unsafe { convolution.image::<crate::lanes::x86::Avx2>(input, rows, output, block) }
}

/// # Safety
/// As [`LargeDepthwise::image`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(
    convolution: &LargeDepthwise,
    input: &[f32],
    rows: Range<usize>,
    output: &mut [f32],
    block: Block,
) {
    // SAFETY: the caller's promise.
    unsafe { convolution.image::<crate::lanes::x86::Avx512>(input, rows, output, block) }
}
