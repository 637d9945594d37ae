//! Runs a model's network: inside the component, or in the host through `wasi:nn`, depending on the crate's features.

#[cfg(feature = "embedded")]
mod embedded;
#[cfg(not(feature = "embedded"))]
mod wasi_nn;

#[cfg(feature = "embedded")]
pub(super) use embedded::Network;
#[cfg(feature = "embedded")]
pub use embedded::Outputs;
#[cfg(not(feature = "embedded"))]
pub(super) use wasi_nn::Network;
#[cfg(not(feature = "embedded"))]
pub use wasi_nn::Outputs;
