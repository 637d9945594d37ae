//! Networks in CIDR notation, such as `10.0.0.0/8`.

use std::net::IpAddr;

use anyhow::{Context, ensure};

/// All addresses whose first bits are those of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    /// How many bits the addresses share.
    prefix_length: u32,
}

impl Cidr {
    /// Parses the two sides of the slash. The address can be any of the network's.
    ///
    /// # Errors
    /// If the first is not an IP address, or the second is more than its bits.
    pub fn parse(address: &str, prefix_length: &str) -> anyhow::Result<Self> {
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address: IpAddr =
            address.parse().with_context(|| format!("{address:?} is not an IP address"))?;
        let length: u32 = prefix_length
            .parse()
            .with_context(|| format!("{prefix_length:?} is not a number of bits"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        ensure!(length <= most, "the prefix has {length} bits, but {address} has only {most}");
        Ok(Self { address, prefix_length: length })
    }

    /// Whether a host is an address of this network. A name never is.
    pub fn contains(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.parse().is_ok_and(|address| self.contains_address(address))
    }

    /// Whether an address is of this network.
    pub fn contains_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let difference = bits(self.address) ^ bits(address);
        self.address.is_ipv4() == address.is_ipv4()
            && difference.leading_zeros() >= self.prefix_length
    }
}

/// An address's bits, from the left.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::Cidr;

    #[test]
    fn a_network_contains_the_addresses_that_share_its_prefix() {
        for (address, length, host, expected) in [
            ("10.0.0.0", "8", "10.255.0.1", true),
            ("10.1.2.3", "8", "10.0.0.1", true),
            ("10.0.0.0", "8", "11.0.0.1", false),
            ("10.0.0.0", "8", "[::ffff:10.0.0.1]", true),
            ("10.0.0.0", "8", "10.example.com", false),
            ("127.0.0.1", "32", "127.0.0.1", true),
            ("127.0.0.1", "32", "127.0.0.2", false),
            ("0.0.0.0", "0", "93.184.216.34", true),
            ("0.0.0.0", "0", "[2606:2800::1]", false),
            ("::", "0", "[2606:2800::1]", true),
            ("::", "0", "93.184.216.34", false),
            ("[fd00::]", "8", "[fdff::1]", true),
            ("fd00::", "8", "[fe00::1]", false),
        ] {
            let network = Cidr::parse(address, length).unwrap();
            assert_eq!(network.contains(host), expected, "{address}/{length} {host}");
        }
    }

    #[test]
    fn malformed_networks_are_refused() {
        for (address, length) in [("a", "8"), ("10.0.0.0", "33"), ("::", "129"), ("::", "-1")] {
            assert!(Cidr::parse(address, length).is_err(), "{address}/{length}");
        }
    }
}
