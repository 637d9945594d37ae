//! The machine that functions run on: its bonds, what containerd there must know, what is wrong with it.

pub mod bond;
pub mod check;
pub mod containerd;
pub mod metrics;
pub mod state;
