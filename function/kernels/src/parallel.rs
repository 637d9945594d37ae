//! Divides the rows of an output among threads, if the network runs in a pool of them, and into bands that fit into a
//! cache.

use std::ops::Range;

use crate::activation::Activation;

/// The bytes of a band that an activation's function is applied to, if nothing asks for more. The first-level cache is
/// seldom smaller than half of it.
const BAND_BYTES: usize = 64 << 10;

/// The least multiply-accumulates that are worth waking a thread for: about 30 µs of work.
#[cfg(feature = "threads")]
const MIN_OPERATIONS: usize = 1_000_000;

/// The rows of an output.
pub(crate) struct Rows {
    pub(crate) count: usize,
    /// Multiply-accumulates of all rows.
    #[cfg_attr(not(feature = "threads"), allow(dead_code, reason = "only threads need it"))]
    pub(crate) operations: usize,
}

impl Rows {
    /// Calls `compute` for ranges of rows, with their part of the output, until all rows are computed.
    pub(crate) fn compute(
        &self,
        output: &mut [f32],
        compute: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        #[cfg(feature = "threads")]
        if let Some(rows) = self.rows_per_thread() {
            use rayon::iter::{IndexedParallelIterator, ParallelIterator};
            use rayon::slice::ParallelSliceMut;
            let row = output.len() / self.count;
            output.par_chunks_mut(rows * row).enumerate().for_each(|(index, output)| {
                let first = index * rows;
                compute(first..first + output.len() / row, output);
            });
            return;
        }
        compute(0..self.count, output);
    }

    /// As [`compute`](Self::compute), and then applies the activation's function to each band of the output, which takes
    /// at least `min_bytes`.
    pub(crate) fn compute_activated(
        &self,
        output: &mut [f32],
        activation: Activation,
        min_bytes: usize,
        compute: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        let row = output.len() / self.count.max(1);
        if activation.function.is_none() || row == 0 {
            return self.compute(output, compute);
        }
        let band = (BAND_BYTES.max(min_bytes) / (row * size_of::<f32>())).max(1);
        self.compute(output, |rows, output| {
            for (start, output) in rows.step_by(band).zip(output.chunks_mut(band * row)) {
                compute(start..start + output.len() / row, output);
                activation.finish(output);
            }
        });
    }

    /// `None` if one thread computes all rows.
    #[cfg(feature = "threads")]
    fn rows_per_thread(&self) -> Option<usize> {
        // Outside of a pool, rayon would start one.
        rayon::current_thread_index()?;
        let threads = rayon::current_num_threads().min(self.operations / MIN_OPERATIONS);
        (threads > 1).then(|| self.count.div_ceil(threads))
    }
}

#[cfg(all(test, feature = "threads"))]
mod tests {
    use std::sync::Mutex;

    use super::{MIN_OPERATIONS, Rows};

    #[test]
    fn each_thread_of_a_pool_computes_a_part_if_that_is_worth_its_while() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let parts = |count: usize, operations: usize| {
            let parts = Mutex::new(Vec::new());
            let mut output = vec![0.0; count * 3];
            pool.install(|| {
                Rows { count, operations }.compute(&mut output, |rows, output| {
                    assert_eq!(output.len(), rows.len() * 3);
                    output.fill(1.0);
                    parts.lock().unwrap().push((rows.start, rows.end));
                });
            });
            assert!(output.iter().all(|number| *number == 1.0), "{output:?}");
            let mut parts = parts.into_inner().unwrap();
            parts.sort_unstable();
            parts
        };
        assert_eq!(parts(10, 9 * MIN_OPERATIONS), [(0, 3), (3, 6), (6, 9), (9, 10)]);
        assert_eq!(parts(10, 2 * MIN_OPERATIONS), [(0, 5), (5, 10)]);
        assert_eq!(parts(10, MIN_OPERATIONS), [(0, 10)]);
        assert_eq!(parts(1, 9 * MIN_OPERATIONS), [(0, 1)]);
    }
}
