//! Checks a machine that runs functions, reads its bonds, and configures its containerd.

pub mod bond;
pub mod check;
pub mod containerd;
pub mod kubelet;
pub mod metrics;
pub mod state;
