//! The interfaces of WASI's release candidates of 2023 whose types or functions differ from those of 0.2.

pub(crate) mod http_2023_10_18;
pub(crate) mod http_2023_11_10;
mod http_resources;
mod linker_functions;
pub(crate) mod sockets_2023;
