//! The maximum of each window of a channels-last image.

use std::ops::Range;

use crate::convolution::Padding;
use crate::image::Image;

/// Max pooling without dilation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MaxPooling {
    pub(crate) input: Image,
    pub(crate) output: Image,
    /// Rows and columns of a window.
    pub(crate) window: (usize, usize),
    /// Rows and columns from one window to the next.
    pub(crate) strides: (usize, usize),
    /// Only `top` and `left` are used. Every window overlaps the image.
    pub(crate) padding: Padding,
}

impl MaxPooling {
    /// Computes `output`, `[height, width, channels]`, from `input`.
    ///
    /// # Panics
    /// If a slice does not have its image's volume.
    pub(crate) fn run(&self, input: &[f32], output: &mut [f32]) {
        let Image { width, channels, .. } = self.input;
        assert_eq!(input.len(), self.input.volume(), "input");
        assert_eq!(output.len(), self.output.volume(), "output");
        // The maxima of the columns of a row of windows.
        let mut columns = vec![0.0; width * channels];
        for (y, row) in output.chunks_exact_mut(self.output.width * channels).enumerate() {
            let rows = span(y, self.strides.0, self.padding.top, self.window.0, self.input.height);
            maximum(rows.map(|row| &input[row * width * channels..]), &mut columns);
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                let span = span(x, self.strides.1, self.padding.left, self.window.1, width);
                maximum(span.map(|column| &columns[column * channels..]), pixel);
            }
        }
    }
}

/// The rows, or the columns, of the image that a window covers.
fn span(index: usize, stride: usize, padding: usize, window: usize, size: usize) -> Range<usize> {
    let start = index * stride;
    start.saturating_sub(padding)..(start + window).saturating_sub(padding).min(size)
}

/// Stores the maximum of the sources, each of which is at least as long as the target.
fn maximum<'s>(mut sources: impl Iterator<Item = &'s [f32]>, target: &mut [f32]) {
    if let Some(first) = sources.next() {
        target.copy_from_slice(&first[..target.len()]);
    }
    for source in sources {
        for (target, source) in target.iter_mut().zip(source) {
            // Not `f32::max`, which takes three instructions.
            if *target < *source {
                *target = *source;
            }
        }
    }
}
