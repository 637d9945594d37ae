//! The address of one end of a connection.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};

/// Where one end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port. The port is 0 if it is not known.
    Inet(SocketAddr),
    /// A process of this machine, through a Unix socket.
    Unix,
}

impl Address {
    /// The IP address, as IPv4 if it is one that is mapped into IPv6; `None` for a Unix socket.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

/// Converts an IPv4 address that is mapped into IPv6, as dual-stack sockets report it, back to IPv4.
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

/// `unix:` for a Unix socket, as nginx writes it.
impl Display for Address {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(formatter),
            Self::Unix => formatter.write_str("unix:"),
        }
    }
}
