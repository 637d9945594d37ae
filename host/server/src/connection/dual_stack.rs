//! Listening sockets. One on all addresses (`[::]`) takes IPv4 as well, whatever the system's default is.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// How many connections may wait to be accepted: the same as tokio's default.
const BACKLOG: i32 = 1024;

/// Binds an address. On a machine without IPv6, `[::]` stands for `0.0.0.0`.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        return TcpListener::bind(address).await;
    }
    match bind_both(address) {
        Err(error) if lacks_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => TcpListener::from_std(bound?.into()),
    }
}

fn bind_both(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Whether binding failed because the machine has no IPv6.
fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::{bind, lacks_ipv6};

    #[tokio::test]
    async fn all_addresses_are_those_of_ipv4_too() {
        let socket = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        // A second socket on the same port shows that the first one has it.
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
        assert!(lacks_ipv6(&Error::from_raw_os_error(97)));
        assert!(!lacks_ipv6(&Error::from_raw_os_error(98)));
    }
}
