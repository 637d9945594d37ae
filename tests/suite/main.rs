//! The black-box suite: what SPECIFICATION.md promises, and more.

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
mod registry;
#[cfg(feature = "shim")]
mod shim;
mod shutdown;
mod specification;
mod spin_manifest;
mod tls;
mod watch;
