//! The kernel for 3×3 depthwise convolutions with stride 1 or 2, on channels-last images.
//!
//! A window slides along each row, one vector of channels at a time. Each column of the input is loaded once and
//! multiplied into the sums of all outputs that it belongs to, which stay in registers.

use std::ops::Range;
use std::sync::Arc;

use crate::activation::{Activation, ActivationVectors};
use crate::image::Image;
use crate::instructions::Instructions;
use crate::lanes::{Lanes, Lanes4};
use crate::parallel::Rows;

/// A depthwise convolution of 3×3.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Depthwise {
    pub(crate) input: Image,
    pub(crate) output: Image,
    pub(crate) stride: Stride,
    /// Whether a row of zeros lies above the image.
    pub(crate) top: LeadingPadding,
    /// Whether a column of zeros lies to the left of the image.
    pub(crate) left: LeadingPadding,
    /// `[9, channels]`, the rows of the window in order.
    pub(crate) weights: Arc<[f32]>,
    /// `[channels]`
    pub(crate) bias: Arc<[f32]>,
    /// A row above or below the image: `[input.width, channels]`, all zero.
    pub(crate) zeros: Arc<[f32]>,
}

/// The same stride in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stride {
    One = 1,
    Two = 2,
}

/// The zeros before the image's first row or column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeadingPadding {
    None = 0,
    One = 1,
}

/// Consecutive rows of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band<'i> {
    /// The first row's position in the image.
    pub(crate) first: usize,
    /// `[rows, input.width, channels]`
    pub(crate) rows: &'i [f32],
}

/// The channels that a kernel computes, from `first` up to `end`.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    end: usize,
    activation: Activation,
}

impl Depthwise {
    /// Computes `output`, `[height, width, channels]`, from `input`.
    ///
    /// # Panics
    /// If a slice does not have its image's volume.
    pub(crate) fn run(&self, input: &[f32], activation: Activation, output: &mut [f32]) {
        assert_eq!(input.len(), self.input.volume(), "input");
        let rows = Rows { count: self.output.height, operations: self.operations() };
        let band = Band { first: 0, rows: input };
        rows.compute_activated(output, activation, 0, |rows, output| {
            self.run_rows(band, rows, activation, output);
        });
    }

    /// Multiply-accumulates.
    pub(crate) fn operations(&self) -> usize {
        self.output.volume() * 9
    }

    /// Computes some rows of the output, `[outputs.len(), width, channels]`, from the rows of the input that they
    /// depend on, without the activation's function.
    ///
    /// # Panics
    /// If the band lacks a row, or a slice does not have the length of its rows.
    pub(crate) fn run_rows(
        &self,
        band: Band,
        outputs: Range<usize>,
        activation: Activation,
        output: &mut [f32],
    ) {
        let channels = self.input.channels;
        assert_eq!(output.len(), outputs.len() * self.output.width * channels, "output");
        assert_eq!(self.output.channels, channels, "channels");
        assert_eq!(self.weights.len(), 9 * channels, "weights");
        assert_eq!(self.bias.len(), channels, "bias");
        assert_eq!(self.zeros.len(), self.input.width * channels, "zeros");
        let mut first = 0;
        for instructions in Instructions::available() {
            let end = channels - (channels - first) % instructions.lanes();
            let block = Block { first, end, activation };
            let source = Sources { convolution: self, band, first_output: outputs.start };
            // SAFETY: the lengths were checked above, and the processor has the instructions.
            unsafe {
                match instructions {
                    Instructions::Lanes4 => image::<Lanes4>(source, output, block),
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx2 => avx2(source, output, block),
                    #[cfg(target_arch = "x86_64")]
                    Instructions::Avx512 => avx512(source, output, block),
                }
            }
            first = end;
        }
        assert_eq!(first, channels, "the channels are a multiple of four");
    }

    /// The rows of the input that some rows of the output depend on.
    pub(crate) fn inputs(&self, outputs: &Range<usize>) -> Range<usize> {
        let (stride, top) = (self.stride as usize, self.top as usize);
        let end = (outputs.end - 1) * stride + 3;
        (outputs.start * stride).saturating_sub(top)..end.saturating_sub(top).min(self.input.height)
    }
}

/// What a kernel reads: rows of the input, for the rows of the output from `first_output` on.
#[derive(Clone, Copy)]
struct Sources<'i> {
    convolution: &'i Depthwise,
    band: Band<'i>,
    first_output: usize,
}

impl<'i> Sources<'i> {
    /// The input row that the window's row `tap` covers for the output row `y`, or zeros.
    fn row(&self, y: usize, tap: usize) -> &'i [f32] {
        let Depthwise { stride, top, zeros, input, .. } = self.convolution;
        let y = self.first_output + y;
        let row = (y * *stride as usize + tap).checked_sub(*top as usize);
        match row.filter(|row| *row < input.height) {
            Some(row) => &self.band.rows[(row - self.band.first) * zeros.len()..][..zeros.len()],
            None => zeros,
        }
    }
}

/// # Safety
/// The slices have the lengths that [`Depthwise::run_rows`] checks, the number of channels in the block is a multiple
/// of the lanes, and the processor has the instruction set of `L`.
#[inline(always)]
unsafe fn image<L: Lanes>(source: Sources, output: &mut [f32], block: Block) {
    let convolution = source.convolution;
    let row_length = convolution.output.width * convolution.output.channels;
    for (y, output) in output.chunks_exact_mut(row_length).enumerate() {
        let rows = [0, 1, 2].map(|tap| source.row(y, tap));
        for channel in (block.first..block.end).step_by(L::COUNT) {
            // SAFETY: the caller's promise; `channel` and the lanes after it are within the channels.
            unsafe {
                let window = Window::<L>::new(convolution, rows, channel, block.activation);
                let target = output.as_mut_ptr().add(channel);
                match convolution.stride {
                    Stride::One => window.slide_by_one(convolution, target),
                    Stride::Two => window.slide_by_two(convolution, target),
                }
            }
        }
    }
}

/// As [`image`], with two vectors of channels at a time. With AVX2, two vectors fill a cache line, which is then loaded
/// once; with AVX-512, they fill a pair of lines, which memory brings together.
///
/// # Safety
/// As [`image`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn paired<L: Lanes>(source: Sources, output: &mut [f32], block: Block) {
    use crate::lanes::Two;
    let pairs_end = block.end - (block.end - block.first) % Two::<L>::COUNT;
    // SAFETY: the caller's promise.
    unsafe {
        image::<Two<L>>(source, output, Block { end: pairs_end, ..block });
        image::<L>(source, output, Block { first: pairs_end, ..block });
    }
}

/// # Safety
/// As [`image`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(source: Sources, output: &mut [f32], block: Block) {
    // SAFETY: the caller's promise.
    unsafe { paired::<crate::lanes::x86::Avx2>(source, output, block) }
}

/// # Safety
/// As [`image`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(source: Sources, output: &mut [f32], block: Block) {
    // SAFETY: the caller's promise.
    unsafe { paired::<crate::lanes::x86::Avx512>(source, output, block) }
}

/// The weights of one vector of channels, and the three input rows that they slide along.
struct Window<L> {
    rows: [*const f32; 3],
    /// By row and column.
    weights: [[L; 3]; 3],
    bias: L,
    activation: ActivationVectors<L>,
    channels: usize,
}

impl<L: Lanes> Window<L> {
    /// # Safety
    /// As [`image`].
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "a closure would not be compiled for the instructions"
    )]
    unsafe fn new(
        convolution: &Depthwise,
        rows: [&[f32]; 3],
        channel: usize,
        activation: Activation,
    ) -> Self {
        let channels = convolution.input.channels;
        // SAFETY: `channel` and the lanes after it are within the channels of all of these.
        unsafe {
            let mut weights = [[L::splat(0.0); 3]; 3];
            for row in 0..3 {
                for column in 0..3 {
                    let tap = (row * 3 + column) * channels + channel;
                    weights[row][column] = L::load(convolution.weights.as_ptr().add(tap));
                }
            }
            let [top, middle, bottom] = rows;
            Self {
                rows: [
                    top.as_ptr().add(channel),
                    middle.as_ptr().add(channel),
                    bottom.as_ptr().add(channel),
                ],
                weights,
                bias: L::load(convolution.bias.as_ptr().add(channel)),
                activation: activation.vectors(),
                channels,
            }
        }
    }

    /// The three numbers of one column of the input.
    ///
    /// # Safety
    /// The column is within the input.
    #[inline(always)]
    unsafe fn column(&self, column: usize) -> [L; 3] {
        let offset = column * self.channels;
        let [top, middle, bottom] = self.rows;
        // SAFETY: the caller's promise.
        unsafe {
            [L::load(top.add(offset)), L::load(middle.add(offset)), L::load(bottom.add(offset))]
        }
    }

    /// Adds a column to a sum, with the weights of the window's column `tap`.
    ///
    /// # Safety
    /// The processor has the instruction set of `L`.
    #[inline(always)]
    unsafe fn add(&self, sum: L, [a, b, c]: [L; 3], tap: usize) -> L {
        let [top, middle, bottom] = &self.weights;
        // SAFETY: the caller's promise.
        unsafe { c.mul_add(bottom[tap], b.mul_add(middle[tap], a.mul_add(top[tap], sum))) }
    }

    /// # Safety
    /// As [`image`]; `target` is the first output of this row and these channels.
    #[inline(always)]
    unsafe fn slide_by_one(&self, convolution: &Depthwise, mut target: *mut f32) {
        let width = convolution.input.width;
        let end = target.wrapping_add(convolution.output.width * self.channels);
        // SAFETY: every column is below `width`, and every target before `end`.
        unsafe {
            // The sums of the outputs whose last and second column come next.
            let (mut last, mut second) = match convolution.left {
                LeadingPadding::One => (self.add(self.bias, self.column(0), 1), self.bias),
                LeadingPadding::None => (self.add(self.bias, self.column(0), 0), self.bias),
            };
            let mut next = 1;
            match convolution.left {
                LeadingPadding::One => second = self.add(second, self.column(0), 0),
                LeadingPadding::None => {
                    last = self.add(last, self.column(1), 1);
                    second = self.add(second, self.column(1), 0);
                    next = 2;
                }
            }
            for column in next..width {
                let column = self.column(column);
                self.activation.apply(self.add(last, column, 2)).store(target);
                target = target.add(self.channels);
                last = self.add(second, column, 1);
                second = self.add(self.bias, column, 0);
            }
            if target < end {
                self.activation.apply(last).store(target);
            }
        }
    }

    /// # Safety
    /// As [`Window::slide_by_one`].
    #[inline(always)]
    unsafe fn slide_by_two(&self, convolution: &Depthwise, mut target: *mut f32) {
        let width = convolution.input.width;
        let end = target.wrapping_add(convolution.output.width * self.channels);
        // SAFETY: every column is below `width`, and every target before `end`.
        unsafe {
            // The sum of the output whose second column comes next.
            let (mut sum, mut second) = match convolution.left {
                LeadingPadding::One => (self.bias, 0),
                LeadingPadding::None => (self.add(self.bias, self.column(0), 0), 1),
            };
            while second + 1 < width {
                let last = self.column(second + 1);
                let whole = self.add(self.add(sum, self.column(second), 1), last, 2);
                self.activation.apply(whole).store(target);
                target = target.add(self.channels);
                sum = self.add(self.bias, last, 0);
                second += 2;
            }
            if target < end {
                if second < width {
                    sum = self.add(sum, self.column(second), 1);
                }
                self.activation.apply(sum).store(target);
            }
        }
    }
}
