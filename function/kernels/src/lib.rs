//! Convolutions of mobile detection networks, as tract operators with kernels of their own.
//!
//! [`optimise`] rewrites a network so that its convolutions run on channels-last images, with the activation and the
//! residual that follow each one fused into it. Convolutions that no kernel fits still run on tract's own operators.
//!
//! The kernels are generic over the width of vectors: 128 bits in WebAssembly, and the widest that the processor has
//! elsewhere.

#![allow(unsafe_code, reason = "kernels read and write vectors through pointers")]

mod activation;
mod aligned;
mod convolution;
mod depthwise;
mod expanded;
mod gemm;
mod image;
mod instructions;
mod lanes;
mod operator;
mod parallel;
mod transform;

pub use transform::optimise;
