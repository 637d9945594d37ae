//! The input tensor of a network.

use half::f16;

/// The tensor of one picture.
#[derive(Debug)]
pub struct Tensor {
    /// See [`crate::model::InputConfig::shape`].
    pub shape: [usize; 4],
    /// In row-major order.
    pub elements: Elements,
}

/// The elements of a tensor.
#[derive(Debug, PartialEq)]
pub enum Elements {
    U8(Vec<u8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}
