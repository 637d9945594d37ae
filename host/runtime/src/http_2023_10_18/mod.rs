//! `wasi:http@0.2.0-rc-2023-10-18`, the release candidate that Spin's Rust SDK 2 uses, and what it needs of `wasi:io`.
//!
//! Its resources are those of `wasi:http@0.2`, and its functions call those.

mod bindings;
mod convert;
mod streams;
mod types;

use wasmtime::component::Linker;
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView};

/// Adds the interfaces to the linker. `host_getter` finds what they need in an instance's state.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> WasiHttpCtxView<'_>,
) -> wasmtime::Result<()> {
    use bindings::wasi::{http, io};
    io::poll::add_to_linker::<T, WasiHttp>(linker, host_getter)?;
    io::streams::add_to_linker::<T, WasiHttp>(linker, host_getter)?;
    http::types::add_to_linker::<T, WasiHttp>(linker, host_getter)?;
    http::outgoing_handler::add_to_linker::<T, WasiHttp>(linker, host_getter)
}
