//! What the tests on made networks share.

use tract_core::internal::*;

/// Numbers from -1 to 1, the same for the same seed.
pub(crate) fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<usize>())
        .map(|index| ((index * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0)
        .collect();
    Tensor::from_shape(shape, &values).unwrap()
}
