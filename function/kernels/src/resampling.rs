//! Changes the size of a channels-last image, as the operator Resize of ONNX does.

use std::sync::Arc;

use crate::image::Image;

/// A resampling of rows and columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resampling {
    pub(crate) input: Image,
    pub(crate) output: Image,
    pub(crate) rows: Arc<[Taps]>,
    pub(crate) columns: Arc<[Taps]>,
}

/// The input's rows or columns, with weights, whose sum makes one of the output's.
pub(crate) type Taps = Vec<(usize, f32)>;

impl Resampling {
    /// Computes `output`, `[height, width, channels]`, from `input`.
    ///
    /// # Panics
    /// If a slice does not have its image's volume.
    pub(crate) fn run(&self, input: &[f32], output: &mut [f32]) {
        let Image { width, channels, .. } = self.input;
        assert_eq!(input.len(), self.input.volume(), "input");
        assert_eq!(output.len(), self.output.volume(), "output");
        let mut resampled = vec![0.0; width * channels];
        let rows = output.chunks_exact_mut(self.output.width * channels);
        for (taps, row) in self.rows.iter().zip(rows) {
            weighted_sum(taps, input, &mut resampled);
            for (taps, pixel) in self.columns.iter().zip(row.chunks_exact_mut(channels)) {
                weighted_sum(taps, &resampled, pixel);
            }
        }
    }
}

/// Stores the weighted sum of some of the source's parts, which are as long as the target.
fn weighted_sum(taps: &Taps, source: &[f32], target: &mut [f32]) {
    let part = |index: usize| &source[index * target.len()..][..target.len()];
    match **taps {
        [(index, 1.0)] => target.copy_from_slice(part(index)),
        [(first, first_weight), (second, second_weight)] => {
            let (first, second) = (part(first), part(second));
            for ((target, first), second) in target.iter_mut().zip(first).zip(second) {
                *target = first_weight * first + second_weight * second;
            }
        }
        _ => {
            target.fill(0.0);
            for &(index, weight) in taps {
                let part = &source[index * target.len()..][..target.len()];
                for (target, number) in target.iter_mut().zip(part) {
                    *target += weight * number;
                }
            }
        }
    }
}
