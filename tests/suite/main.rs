//! The black-box suite: one module for each promise of the README.

mod accuracy;
mod bad_input;
mod bake;
mod bond;
mod command_line;
mod detect;
mod formats;
mod hostile;
mod isolation;
mod limits;
#[cfg(feature = "shim")]
mod lxc;
mod manifests;
mod node;
mod observability;
mod overload;
mod parity;
mod placement;
#[cfg(feature = "shim")]
mod pods;
mod portability;
mod readme;
mod registry;
#[cfg(feature = "shim")]
mod shim;
mod shutdown;
mod spin_manifest;
mod tls;
mod watch;
