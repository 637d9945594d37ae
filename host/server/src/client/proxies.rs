//! The proxies in front of this server that may say who their clients are.

use std::str::FromStr;

use clap::ValueEnum;

use super::address::Address;
use spotter_app::cidr::Cidr;

/// Where a trusted proxy connects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// An address of this network.
    Network(Cidr),
    /// A process of this machine, through a Unix socket.
    Unix,
}

impl FromStr for Proxy {
    type Err = String;

    /// Parses `10.0.0.0/8`, a single address, or `unix:`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix:" {
            return Ok(Self::Unix);
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, length),
            None if text.contains(':') => (text, "128"),
            None => (text, "32"),
        };
        let network = Cidr::parse(address, length);
        network.map(Self::Network).map_err(|error| format!("{error:#}"))
    }
}

/// The headers by which a proxy says who its client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ForwardedHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// Which proxies are trusted, and how they name their clients.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    trusted: Vec<Proxy>,
    pub headers: ForwardedHeaders,
    speak_proxy_protocol: bool,
}

impl Proxies {
    /// Trusts the headers of these proxies.
    pub fn new(trusted: Vec<Proxy>, headers: ForwardedHeaders) -> Self {
        Self { trusted, headers, speak_proxy_protocol: false }
    }

    /// From now on, each connection of a trusted proxy must begin with a header of the PROXY protocol.
    #[must_use]
    pub fn with_proxy_protocol(self) -> Self {
        Self { speak_proxy_protocol: true, ..self }
    }

    pub fn is_empty(&self) -> bool {
        self.trusted.is_empty()
    }

    /// Whether this address is a trusted proxy's.
    pub fn trusts(&self, address: Address) -> bool {
        self.trusted.iter().any(|proxy| match proxy {
            Proxy::Network(network) => address.ip().is_some_and(|ip| network.contains_address(ip)),
            Proxy::Unix => address == Address::Unix,
        })
    }

    /// Whether a connection from this address begins with a header of the PROXY protocol.
    pub fn expects_proxy_header(&self, address: Address) -> bool {
        self.speak_proxy_protocol && self.trusts(address)
    }
}

#[cfg(test)]
mod tests {
    use super::{ForwardedHeaders, Proxies, Proxy};
    use crate::client::address::Address;

    #[test]
    fn only_the_proxies_that_are_named_are_trusted() {
        let named = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "unix:"];
        let named = named.map(|text| text.parse::<Proxy>().unwrap()).to_vec();
        let proxies = Proxies::new(named, ForwardedHeaders::default());
        for (address, expected) in [
            ("10.9.9.9:1", true),
            ("11.0.0.1:1", false),
            ("192.0.2.1:1", true),
            ("192.0.2.2:1", false),
            ("[2001:db8::9]:1", true),
            ("[::1]:1", false),
            ("[::ffff:10.0.0.1]:1", true),
        ] {
            let trusted = proxies.trusts(Address::Inet(address.parse().unwrap()));
            assert_eq!(trusted, expected, "{address}");
        }
        assert!(proxies.trusts(Address::Unix));
        assert!(!Proxies::default().trusts(Address::Unix));
        for text in ["", "10.0.0.0/33", "proxy.example.com", "10.0.0.0/", "unix:/a"] {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }
}
