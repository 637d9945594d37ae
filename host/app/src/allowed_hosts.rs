//! `allowed_outbound_hosts`: the hosts that a component may send requests to
//! (<https://spinframework.dev/http-outbound#allowing-outbound-network-access>).

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, bail, ensure};

use super::cidr::Cidr;

/// The hosts that one component may send requests to; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<HostPattern>);

/// `scheme://host[:port]`, each part a value or a wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPattern {
    /// `None` for `*`.
    scheme: Option<String>,
    host: Host,
    ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    /// `*.example.com`: any host with this suffix, which includes the dot.
    Below(String),
    Exactly(String),
    /// Any address of a network.
    In(Cidr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    Any,
    /// The default port of the scheme.
    OfScheme,
    Range(u16, u16),
}

/// Why a request is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The manifest names the host or its network, so it may have any address.
    ByName,
    /// A wildcard matches the host, which must have a public address.
    ByWildcard,
}

impl AllowedHosts {
    /// Parses the entries of a manifest.
    ///
    /// # Errors
    /// If an entry is not of the form `scheme://host[:port]`, or its scheme is not supported.
    pub fn parse(entries: &[String]) -> anyhow::Result<Self> {
        let parse = |entry: &String| {
            HostPattern::parse(entry)
                .with_context(|| format!("`allowed_outbound_hosts` has {entry:?}"))
        };
        Ok(Self(entries.iter().map(parse).collect::<anyhow::Result<_>>()?))
    }

    /// Whether and why a request to this scheme, host and port is allowed.
    pub fn permit(&self, scheme: &str, host: &str, port: u16) -> Option<Permission> {
        let permissions = self.0.iter().filter_map(|pattern| pattern.permit(scheme, host, port));
        permissions.min_by_key(|permission| *permission == Permission::ByWildcard)
    }

    /// Whether any host is allowed for this scheme.
    pub fn permits_scheme(&self, scheme: &str) -> bool {
        self.0.iter().any(|pattern| pattern.scheme.as_deref().is_none_or(|own| own == scheme))
    }

    /// The names without wildcards that are allowed for this scheme and port. Their addresses are not known here.
    pub fn names(&self, scheme: &str, port: u16) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |pattern| {
            let Host::Exactly(name) = &pattern.host else { return None };
            pattern.permit(scheme, name, port).map(|_| name.as_str())
        })
    }

    /// Whether requests to the component `id` of the same application are allowed.
    pub fn permits_calling(&self, id: &str) -> bool {
        let host = format!("{id}{SERVICE_CHAINING_SUFFIX}");
        ["http", "https"]
            .iter()
            .any(|scheme| self.permit(scheme, &host, default_port(scheme)).is_some())
    }
}

impl HostPattern {
    fn parse(entry: &str) -> anyhow::Result<Self> {
        let (scheme, rest) =
            entry.split_once("://").context("it has no scheme; write https://host")?;
        let rest = rest.trim_end_matches('/');
        let (host, ports) = match rest.rsplit_once(':') {
            Some((host, ports)) if !ports.contains([']', '/']) => (host, parse_ports(ports)?),
            _ => (rest, if scheme == "*" { Ports::Any } else { Ports::OfScheme }),
        };
        let scheme = match scheme {
            "*" => None,
            other => Some(other.to_ascii_lowercase()),
        };
        if let (Some(scheme), Ports::OfScheme) = (&scheme, ports) {
            ensure!(
                known_port(scheme).is_some(),
                "the scheme {scheme} has no default port; write {scheme}://host:port"
            );
        }
        Ok(Self { scheme, host: parse_host(host)?, ports })
    }

    fn permit(&self, scheme: &str, host: &str, port: u16) -> Option<Permission> {
        let is_scheme = self.scheme.as_ref().is_none_or(|own| own == scheme);
        let is_port = match self.ports {
            Ports::Any => true,
            Ports::OfScheme => port == default_port(scheme),
            Ports::Range(first, last) => (first..=last).contains(&port),
        };
        if !is_scheme || !is_port {
            return None;
        }
        let host = normalize(host);
        match &self.host {
            Host::Exactly(own) => {
                let is_itself =
                    SELF_HOSTS.contains(&own.as_str()) && SELF_HOSTS.contains(&host.as_str());
                (*own == host || is_itself).then_some(Permission::ByName)
            }
            Host::In(network) => network.contains(&host).then_some(Permission::ByName),
            // A general wildcard does not include the application's own components.
            Host::Any if is_chained_host(&host) => None,
            Host::Below(suffix) => host.ends_with(suffix).then_some(Permission::ByWildcard),
            Host::Any => Some(Permission::ByWildcard),
        }
    }
}

fn parse_ports(text: &str) -> anyhow::Result<Ports> {
    let port = |text: &str| text.parse::<u16>().with_context(|| format!("{text:?} is not a port"));
    match text.split_once("..") {
        Some((first, last)) => Ok(Ports::Range(port(first)?, port(last)?)),
        None if text == "*" => Ok(Ports::Any),
        None => port(text).map(|port| Ports::Range(port, port)),
    }
}

fn parse_host(text: &str) -> anyhow::Result<Host> {
    ensure!(!text.is_empty(), "it has no host");
    if let Some((address, prefix_length)) = text.split_once('/') {
        let network = Cidr::parse(address, prefix_length);
        return network.map(Host::In).context(
            "it has a path; write only the scheme, host and port, or a network such as 10.0.0.0/8",
        );
    }
    Ok(match text.strip_prefix('*') {
        Some("") => Host::Any,
        Some(suffix) if suffix.starts_with('.') && !suffix.contains('*') => {
            Host::Below(suffix.to_ascii_lowercase())
        }
        Some(_) => bail!("a wildcard stands for whole labels: write *.example.com"),
        None => {
            ensure!(!text.contains('*'), "a wildcard stands for whole labels: write *.example.com");
            Host::Exactly(normalize(text))
        }
    })
}

/// A host in lower case. An IPv6 address loses the brackets it has in URLs, and gets its canonical form (RFC 5952).
fn normalize(host: &str) -> String {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match address.parse::<Ipv6Addr>() {
        Ok(address) => address.to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

/// Whether a host is the application itself (`self`) or one of its components (`ID.spin.internal`)
/// (<https://spinframework.dev/http-outbound#intra-application-http-requests-by-name>).
pub fn is_chained_host(host: &str) -> bool {
    SELF_HOSTS.contains(&host) || host.ends_with(SERVICE_CHAINING_SUFFIX)
}

/// The names of the application itself. Some libraries take no host without a dot.
const SELF_HOSTS: [&str; 2] = ["self", "self.alt"];

/// The component that a host names; `None` if it names the application itself.
pub fn sibling_id(host: &str) -> Option<&str> {
    host.strip_suffix(SERVICE_CHAINING_SUFFIX)
}

const SERVICE_CHAINING_SUFFIX: &str = ".spin.internal";

/// The default port of a scheme of URLs that components send requests to.
pub fn default_port(scheme: &str) -> u16 {
    known_port(scheme).unwrap_or(443)
}

fn known_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "http" => 80,
        "https" => 443,
        "mqtt" => 1883,
        "mysql" => 3306,
        "postgres" => 5432,
        "redis" => 6379,
        _ => return None,
    })
}

/// Whether an address is public, rather than of this machine or its networks.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_broadcast()
                || address.is_multicast()
                || address.is_unspecified()
                || first == 0
                || is_shared)
        }
        IpAddr::V6(address) => {
            if let Some(mapped) = address.to_ipv4_mapped() {
                return is_public(IpAddr::V4(mapped));
            }
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AllowedHosts, Permission, is_public};

    fn allowed(entries: &[&str]) -> AllowedHosts {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        AllowedHosts::parse(&entries).unwrap()
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert_eq!(AllowedHosts::default().permit("https", "example.com", 443), None);
    }

    #[test]
    fn patterns_match_as_spins_documentation_says() {
        let by_name = Some(Permission::ByName);
        let by_wildcard = Some(Permission::ByWildcard);
        let cases = [
            ("https://example.com", "https", "example.com", 443, by_name),
            ("https://example.com", "https", "EXAMPLE.com", 443, by_name),
            ("https://example.com", "http", "example.com", 80, None),
            ("https://example.com", "https", "example.com", 8443, None),
            ("https://example.com", "https", "evil-example.com", 443, None),
            ("http://localhost:8080", "http", "localhost", 8080, by_name),
            ("http://localhost:8000..9000", "http", "localhost", 8500, by_name),
            ("http://localhost:8000..9000", "http", "localhost", 9001, None),
            ("*://localhost:*", "http", "localhost", 1, by_name),
            ("https://*.example.com", "https", "a.b.example.com", 443, by_wildcard),
            ("https://*.example.com", "https", "example.com", 443, None),
            ("*://*:*", "http", "anything", 1234, by_wildcard),
            ("*://*:*", "http", "other.spin.internal", 80, None),
            ("*://*:*", "http", "self", 80, None),
            ("http://self", "http", "self", 80, by_name),
            ("http://self", "http", "self.alt", 80, by_name),
            ("http://10.0.0.0/8", "http", "10.1.2.3", 80, by_name),
            ("http://10.0.0.0/8", "http", "10.1.2.3", 81, None),
            ("http://10.0.0.0/8", "http", "11.1.2.3", 80, None),
            ("*://fd00::/8:5432", "https", "[fd00::1]", 5432, by_name),
            ("https://fd00::/8", "https", "[fd00::1]", 443, by_name),
            ("http://[FD00::0:1]:8080", "http", "[fd00::1]", 8080, by_name),
            ("redis://[::1]", "redis", "::1", 6379, by_name),
            ("redis://[::1]", "redis", "::2", 6379, None),
            ("http://other.spin.internal", "http", "other.spin.internal", 80, by_name),
            ("http://other.spin.internal", "http", "third.spin.internal", 80, None),
            ("redis://localhost", "redis", "localhost", 6379, by_name),
            ("redis://localhost", "http", "localhost", 6379, None),
            ("tcp://127.0.0.1:5000..6000", "tcp", "127.0.0.1", 5432, by_name),
            ("*://127.0.0.1:5432", "tcp", "127.0.0.1", 5432, by_name),
            ("http://*.spin.internal", "http", "third.spin.internal", 80, by_wildcard),
        ];
        for (entry, scheme, host, port, expected) in cases {
            assert_eq!(
                allowed(&[entry]).permit(scheme, host, port),
                expected,
                "{entry} {host}:{port}"
            );
        }
        assert_eq!(allowed(&["*://*:*", "http://a"]).permit("http", "a", 80), by_name);
    }

    #[test]
    fn names_are_listed_for_those_who_know_only_addresses() {
        let hosts = allowed(&["tcp://a:1", "tcp://b:2", "*://c:*", "tcp://*.d:1", "http://e:1"]);
        assert_eq!(hosts.names("tcp", 1).collect::<Vec<_>>(), ["a", "c"]);
        assert!(hosts.permits_scheme("tcp") && hosts.permits_scheme("redis"));
        assert!(!allowed(&["http://a"]).permits_scheme("tcp"));
    }

    #[test]
    fn malformed_entries_are_refused() {
        for entry in [
            "example.com",
            "ftp://a",
            "tcp://a",
            "https://",
            "https://a/b",
            "https://a:b",
            "https://a*",
            "http://a/8:80/b",
        ] {
            assert!(AllowedHosts::parse(&[entry.to_owned()]).is_err(), "{entry}");
        }
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for address in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "0.0.0.0",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
