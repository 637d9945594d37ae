//! Functions of `wasi:sockets` that the release candidates of November and December 2023 have and 0.2 lacks. A guest
//! that calls one is told that it is not supported.

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::tcp::TcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::UdpSocket;

/// The interfaces, with the version under which wasmtime-wasi links them.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";

/// What the functions return.
const NOT_SUPPORTED: ErrorCode = ErrorCode::NotSupported;

/// Adds the functions to the interfaces that the linker has.
pub(super) fn add_to_linker<T: Send + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let mut tcp = linker.instance(TCP)?;
    tcp.func_wrap("[method]tcp-socket.ipv6-only", |_, _: (Resource<TcpSocket>,)| {
        Ok((Err::<bool, _>(NOT_SUPPORTED),))
    })?;
    tcp.func_wrap("[method]tcp-socket.set-ipv6-only", |_, _: (Resource<TcpSocket>, bool)| {
        Ok((Err::<(), _>(NOT_SUPPORTED),))
    })?;
    let mut udp = linker.instance(UDP)?;
    udp.func_wrap("[method]udp-socket.ipv6-only", |_, _: (Resource<UdpSocket>,)| {
        Ok((Err::<bool, _>(NOT_SUPPORTED),))
    })?;
    udp.func_wrap("[method]udp-socket.set-ipv6-only", |_, _: (Resource<UdpSocket>, bool)| {
        Ok((Err::<(), _>(NOT_SUPPORTED),))
    })
}
