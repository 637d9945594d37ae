//! Functions of `wasi:sockets` that the release candidates of November and December 2023 have and 0.2 lacks. A guest
//! that calls one is told that it is not supported.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::tcp::TcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::UdpSocket;

/// Adds the functions to the interfaces that the linker has, under the names that wasmtime-wasi links them with.
pub(crate) fn add_to_linker<T: Send + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    add_ipv6_only::<T, TcpSocket>(linker, "wasi:sockets/tcp@0.2.12", "tcp-socket")?;
    add_ipv6_only::<T, UdpSocket>(linker, "wasi:sockets/udp@0.2.12", "udp-socket")
}

fn add_ipv6_only<T: Send + 'static, Socket: 'static>(
    linker: &mut Linker<T>,
    interface: &str,
    resource: &str,
) -> wasmtime::Result<()> {
    let mut functions = linker.instance(interface)?;
    functions
        .func_wrap(&format!("[method]{resource}.ipv6-only"), |_, _: (Resource<Socket>,)| {
            Ok((Err::<bool, _>(ErrorCode::NotSupported),))
        })?;
    functions.func_wrap(
        &format!("[method]{resource}.set-ipv6-only"),
        |_, _: (Resource<Socket>, bool)| Ok((Err::<(), _>(ErrorCode::NotSupported),)),
    )
}
