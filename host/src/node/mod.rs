//! The machine that functions run on: what containerd there must know.

pub mod containerd;
