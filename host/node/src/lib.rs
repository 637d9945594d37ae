//! Checks a machine that runs functions, reads its bonds, and installs the shim on it.

pub mod bond;
pub mod check;
pub mod containerd;
pub mod install;
pub mod kubelet;
pub mod metrics;
mod programs;
pub mod state;
