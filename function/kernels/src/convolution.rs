//! A convolution over all channels of a channels-last image, by [`crate::gemm`].

use std::borrow::Cow;
use std::sync::Arc;

use crate::gemm::{Epilogue, Packed, STEP};
use crate::image::Image;

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
    pub(crate) weights: Arc<Packed>,
    /// What is subtracted from the channels of the input before it is padded; empty for nothing.
    pub(crate) means: Arc<[f32]>,
}

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
        if self.is_pointwise() {
            return self.weights.multiply(input, epilogue, output);
        }
        let image = self.padded(input);
        let output_row = self.output.width * self.output.channels;
        let mut windows = vec![0.0; self.output.width * self.weights.window()];
        for (y, output) in output.chunks_exact_mut(output_row).enumerate() {
            self.gather(&image, y, &mut windows);
            let residual =
                epilogue.residual.map(|residual| &residual[y * output_row..][..output_row]);
            self.weights.multiply(&windows, Epilogue { residual, ..epilogue }, output);
        }
    }

    /// Copies the windows of one row of the output, one after another. This costs little beside the product, which can
    /// then read them in one piece.
    fn gather(&self, image: &[f32], y: usize, windows: &mut [f32]) {
        let Padding { left, right, .. } = self.padding;
        let channels = self.input.channels;
        let row = (left + self.input.width + right) * channels;
        let segment = self.kernel.1 * channels;
        for (x, window) in windows.chunks_exact_mut(self.weights.window()).enumerate() {
            let start = y * self.strides.0 * row + x * self.strides.1 * channels;
            for (index, target) in window.chunks_exact_mut(segment).take(self.kernel.0).enumerate()
            {
                target.copy_from_slice(&image[start + index * row..][..segment]);
            }
        }
    }

    /// Whether each output depends on one pixel, and all pixels follow each other.
    fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1)
            && self.strides == (1, 1)
            && self.padding == Padding::default()
            && self.means.is_empty()
            && self.input.channels.is_multiple_of(STEP)
    }

    /// The image without its means and with its padding.
    fn padded<'i>(&self, input: &'i [f32]) -> Cow<'i, [f32]> {
        if self.padding == Padding::default() && self.means.is_empty() {
            return Cow::Borrowed(input);
        }
        let Image { height, width, channels } = self.input;
        let Padding { top, bottom, left, right } = self.padding;
        let row = (left + width + right) * channels;
        let mut image = vec![0.0; (top + height + bottom) * row];
        let targets = image[top * row..].chunks_exact_mut(row);
        for (target, source) in targets.zip(input.chunks_exact(width * channels)) {
            let target = &mut target[left * channels..][..source.len()];
            target.copy_from_slice(source);
            if !self.means.is_empty() {
                subtract(target, &self.means);
            }
        }
        Cow::Owned(image)
    }
}

/// Subtracts each channel's mean from the pixels.
fn subtract(pixels: &mut [f32], means: &[f32]) {
    for pixel in pixels.chunks_exact_mut(means.len()) {
        for (channel, mean) in pixel.iter_mut().zip(means) {
            *channel -= mean;
        }
    }
}
