//! The portable black-box tests, which run on any Linux without root, packages or a network.

mod accuracy;
mod bad_input;
mod bake;
mod command_line;
mod detect;
mod formats;
mod heads;
mod hostile;
mod image;
mod isolation;
mod limits;
mod new;
mod node;
mod observability;
mod overload;
mod parity;
mod placement;
mod portability;
mod shutdown;
mod specification;
mod spin_manifest;
mod tls;
mod toolchain;
mod watch;
