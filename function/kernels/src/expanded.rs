//! Runs a pointwise convolution and the depthwise convolution after it as one: each block of MobileNet v2 begins with
//! such a pair.
//!
//! The image between them is the largest of the network, far larger than the processor's caches. So only as many rows
//! of it as fit into a cache are computed at a time, and used at once. The whole image is never in memory.

use std::ops::Range;

use crate::activation::Activation;
use crate::aligned::Aligned;
use crate::convolution::Convolution;
use crate::depthwise::{Band, Depthwise};
use crate::gemm::Epilogue;
use crate::parallel::Rows;

/// A pointwise convolution followed by a depthwise one of 3×3.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expanded {
    expansion: Convolution,
    /// What follows the first convolution.
    expansion_activation: Activation,
    pub(crate) depthwise: Depthwise,
}

/// From this size on, in bytes, the image between the convolutions is worth computing in bands: a smaller one stays in
/// the cache.
const MIN_IMAGE_BYTES: usize = 1 << 20;

/// The bytes of a band. It shares the second-level cache with the weights; most processors have 256 KiB or more of it
/// for each core.
const BAND_BYTES: usize = 128 << 10;

impl Expanded {
    /// `None` if the first convolution is not pointwise, or the image between them is small.
    pub(crate) fn new(
        expansion: &Convolution,
        expansion_activation: Activation,
        depthwise: &Depthwise,
    ) -> Option<Self> {
        let bytes = expansion.output.volume() * size_of::<f32>();
        let fits = expansion.is_pointwise() && bytes >= MIN_IMAGE_BYTES;
        let (expansion, depthwise) = (expansion.clone(), depthwise.clone());
        fits.then_some(Self { expansion, expansion_activation, depthwise })
    }

    /// Multiply-accumulates.
    pub(crate) fn operations(&self) -> usize {
        self.expansion.operations() + self.depthwise.operations()
    }

    /// Computes `output`, `[height, width, channels]`, from `input`.
    ///
    /// # Panics
    /// If a slice does not have its image's volume.
    pub(crate) fn run(&self, input: &[f32], activation: Activation, output: &mut [f32]) {
        let rows = Rows { count: self.depthwise.output.height, operations: self.operations() };
        rows.compute(output, |rows, output| self.run_rows(input, rows, activation, output));
    }

    /// Computes some rows of the output, `[rows.len(), width, channels]`.
    fn run_rows(
        &self,
        input: &[f32],
        rows: Range<usize>,
        activation: Activation,
        output: &mut [f32],
    ) {
        let Self { expansion, depthwise, .. } = self;
        let row = expansion.output.width * expansion.output.channels;
        let output_row = depthwise.output.width * depthwise.output.channels;
        let outputs_at_once = self.outputs_at_once(row);
        let epilogue = Epilogue { residual: None, activation: self.expansion_activation };
        let most_rows = (outputs_at_once - 1) * depthwise.stride as usize + 3;
        let mut band = Aligned::zeros(most_rows * row);
        // The rows of the image between the convolutions that the band holds.
        let first = depthwise.inputs(&rows).start;
        let mut held = first..first;
        for (index, output) in output.chunks_mut(outputs_at_once * output_row).enumerate() {
            let start = rows.start + index * outputs_at_once;
            let outputs = start..start + output.len() / output_row;
            let needed = depthwise.inputs(&outputs);
            let kept = held.end - needed.start;
            band.copy_within((needed.start - held.start) * row..held.len() * row, 0);
            let band = &mut band[..needed.len() * row];
            let added = &mut band[kept * row..];
            expansion.run_rows(input, held.end..needed.end, epilogue, added);
            self.expansion_activation.finish(added);
            let band = Band { first: needed.start, rows: band };
            depthwise.run_rows(band, outputs, activation, output);
            activation.finish(output);
            held = needed;
        }
    }

    /// How many rows of the output one band is enough for.
    fn outputs_at_once(&self, row: usize) -> usize {
        let rows = BAND_BYTES / (row * size_of::<f32>());
        (rows / self.depthwise.stride as usize).max(1)
    }
}
