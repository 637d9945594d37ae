//! The addresses at both ends of a connection, and whether it is encrypted.

use super::address::Address;

/// The addresses and the scheme of a client's connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    pub client: Address,
    pub local: Address,
    pub scheme: Scheme,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The scheme as it appears in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
