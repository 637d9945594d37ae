//! Convolutions of mobile detection networks, as tract operators with kernels of their own.
//!
//! [`optimise`] rewrites a network so that its convolutions run on channels-last images, with the activation and the
//! residual that follow each one fused into it. Between them, max pooling, resizes, concatenations and the like run on
//! the same images, so that nothing is transposed. What no kernel fits still runs on tract's own operators.
//!
//! The kernels are generic over the width of vectors: 128 bits in WebAssembly, and the widest that the processor has
//! elsewhere.

#![allow(unsafe_code, reason = "kernels read and write vectors through pointers")]

mod activation;
mod aligned;
mod convolution;
mod depthwise;
mod element_wise;
mod expanded;
mod gemm;
mod geometry;
mod image;
mod image_operator;
mod instructions;
mod lanes;
mod large_depthwise;
mod layout;
mod max_pooling;
mod operator;
mod parallel;
mod resampling;
mod softmax;
mod space_to_depth;
mod transform;

pub use transform::optimise;
