//! Finds out who a request's client is, from the headers of trusted proxies: `Forwarded` (RFC 7239) or `X-Forwarded-*`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

use super::address::Address;
use super::connection_info::{ConnectionInfo, Scheme};
use super::host_header;
use super::proxies::{ForwardedHeaders, Proxies};

const X_FORWARDED_PREFIX: &str = "x-forwarded-";

/// What a proxy says about a request that it forwards.
#[derive(Default)]
struct Hop {
    client: Option<Address>,
    scheme: Option<Scheme>,
    host: Option<String>,
}

/// Returns the client's connection, and puts the host that it asked for into `Host`. Headers that no trusted proxy sent
/// are removed, so that a guest can trust those that it gets. Without trusted proxies, nothing is changed.
pub(crate) fn resolve_client<B>(
    request: &mut Request<B>,
    connection: ConnectionInfo,
    proxies: &Proxies,
) -> ConnectionInfo {
    if proxies.is_empty() {
        return connection;
    }
    let is_x =
        |name: &HeaderName| name.as_str().starts_with(X_FORWARDED_PREFIX) || name == "x-real-ip";
    let is_forwarded = |name: &HeaderName| *name == header::FORWARDED;
    let headers = request.headers_mut();
    if !proxies.trusts(connection.client) {
        remove(headers, |name| is_x(name) || is_forwarded(name));
        return connection;
    }
    let hop = match proxies.headers {
        ForwardedHeaders::XForwarded => {
            remove(headers, is_forwarded);
            by_x_forwarded(headers, proxies)
        }
        ForwardedHeaders::Forwarded => {
            remove(headers, is_x);
            by_forwarded(headers, proxies)
        }
    };
    if let Some(host) = hop.host {
        replace_host(request, &host);
    }
    let client = hop.client.unwrap_or(connection.client);
    ConnectionInfo { client, scheme: hop.scheme.unwrap_or(connection.scheme), ..connection }
}

fn remove(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The last value of `X-Forwarded-Proto` and `-Host` is that of the proxy nearest to this server.
fn by_x_forwarded(headers: &HeaderMap, proxies: &Proxies) -> Hop {
    let last = |name: &str| list(headers, name).pop();
    let nodes: Vec<_> = list(headers, "x-forwarded-for").iter().map(|node| address(node)).collect();
    Hop {
        client: client(&nodes, proxies).and_then(|index| nodes[index]),
        scheme: last("x-forwarded-proto").as_deref().and_then(scheme),
        host: last("x-forwarded-host").filter(|host| !host.is_empty()),
    }
}

/// The element that names the client was written by the first trusted proxy, to which the client connected.
fn by_forwarded(headers: &HeaderMap, proxies: &Proxies) -> Hop {
    let elements = |line: &str| -> Vec<Vec<(String, String)>> {
        let pairs = |element| split(element, ';').into_iter().filter_map(pair).collect();
        split(line, ',').into_iter().map(pairs).collect()
    };
    let elements: Vec<_> = lines(headers, "forwarded").flat_map(|line| elements(&line)).collect();
    let find = |index: usize, name: &str| -> Option<&str> {
        let found = elements[index].iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    let nodes: Vec<_> =
        (0..elements.len()).map(|index| find(index, "for").and_then(address)).collect();
    // Without any client, the nearest proxy's element still tells scheme and host.
    let Some(index) = client(&nodes, proxies).or(elements.len().checked_sub(1)) else {
        return Hop::default();
    };
    Hop {
        client: nodes[index],
        scheme: find(index, "proto").and_then(scheme),
        host: find(index, "host").filter(|host| !host.is_empty()).map(str::to_owned),
    }
}

/// The index of the client among the nodes that a request has passed: from the right, the first that is not a trusted
/// proxy. Nodes further left are as the client sent them. Beyond a node that is not an address, nothing is known, so
/// the client is then the address to the right of it.
fn client(nodes: &[Option<Address>], proxies: &Proxies) -> Option<usize> {
    let mut found = None;
    for (index, node) in nodes.iter().enumerate().rev() {
        let Some(address) = node else { break };
        found = Some(index);
        if !proxies.trusts(*address) {
            break;
        }
    }
    found
}

/// The values of a header that is a list, in one line or several.
fn list(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = |line: Cow<str>| -> Vec<String> {
        line.split(',').map(|value| value.trim().to_owned()).collect()
    };
    lines(headers, name).flat_map(values).collect()
}

/// A header's lines. A proxy appends to what its client sent, so a byte that is not text must spoil only its own value.
fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    headers.get_all(name).into_iter().map(|line| String::from_utf8_lossy(line.as_bytes()))
}

/// Splits where the separator is not in quotes. A quote that is not closed counts as any other character: a client may
/// have sent it, and a proxy appended its own values.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|character: char| {
        if is_escaped {
            is_escaped = false;
        } else if is_quoted && character == '\\' {
            is_escaped = true;
        } else if character == '"' {
            is_quoted = !is_quoted;
        }
        character == separator && !is_quoted
    });
    let parts = parts.collect();
    if is_quoted { text.split(separator).collect() } else { parts }
}

/// A parameter `name=value` or `name="value"`.
fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let value = match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(quoted) => quoted.replace('\\', ""),
        None => value.to_owned(),
    };
    Some((name.trim().to_owned(), value))
}

/// A node with its port or without, whose port is then 0. An IPv6 address may have brackets.
fn address(node: &str) -> Option<Address> {
    if node == Address::Unix.to_string() {
        return Some(Address::Unix);
    }
    let with_port = node.parse::<SocketAddr>().ok();
    let bare = || {
        let inner = node.strip_prefix('[').and_then(|node| node.strip_suffix(']'));
        inner.unwrap_or(node).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0))
    };
    with_port.or_else(bare).map(Address::Inet)
}

fn scheme(text: &str) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|one| text.eq_ignore_ascii_case(one.as_str()))
}

/// Replaces the host that the request is for. An invalid host is refused later, like one that a client sends itself.
fn replace_host<B>(request: &mut Request<B>, host: &str) {
    // Not where the request itself is at fault: that is refused later too.
    if host_header::normalize(request).is_err() {
        return;
    }
    let Ok(value) = HeaderValue::try_from(host) else { return };
    request.headers_mut().insert(header::HOST, value);
    if request.uri().authority().is_some() {
        let mut parts = request.uri().clone().into_parts();
        parts.authority = host.parse::<Authority>().ok();
        if parts.authority.is_none() {
            parts.scheme = None;
        }
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::resolve_client;
    use crate::client::address::Address;
    use crate::client::connection_info::{ConnectionInfo, Scheme};
    use crate::client::proxies::{ForwardedHeaders, Proxies};
    use http::{HeaderValue, Request, header};

    fn proxies(headers: ForwardedHeaders) -> Proxies {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        Proxies::new(trusted.to_vec(), headers)
    }

    fn connection(client: &str) -> ConnectionInfo {
        let client = Address::Inet(client.parse().unwrap());
        ConnectionInfo { client, local: client, scheme: Scheme::Http }
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/a").header(header::HOST, "inner.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        for (values, expected) in [
            (["192.0.2.1"].as_slice(), "192.0.2.1:0"),
            (&["192.0.2.1:99"], "192.0.2.1:99"),
            (&["2001:db8::1"], "[2001:db8::1]:0"),
            (&["[2001:db8::1]:99"], "[2001:db8::1]:99"),
            (&["198.51.100.7, 192.0.2.1"], "192.0.2.1:0"),
            (&["198.51.100.7", "192.0.2.1, 10.0.0.3"], "192.0.2.1:0"),
            (&["10.0.0.4, 10.0.0.3"], "10.0.0.4:0"),
            (&["192.0.2.1, unknown, 10.0.0.3"], "10.0.0.3:0"),
            (&["192.0.2.1, nonsense"], "10.0.0.9:5"),
            (&[""], "10.0.0.9:5"),
        ] {
            let headers: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let proxies = proxies(ForwardedHeaders::XForwarded);
            let found = resolve_client(&mut request(&headers), connection("10.0.0.9:5"), &proxies);
            assert_eq!(found.client.to_string(), expected, "{values:?}");
        }
        for (value, expected, scheme, host) in [
            (
                "for=192.0.2.1;proto=https;host=outer.test",
                "192.0.2.1:0",
                Scheme::Https,
                "outer.test",
            ),
            (
                "for=\"[2001:db8::1]:99\";host=\"outer.test:8\"",
                "[2001:db8::1]:99",
                Scheme::Http,
                "outer.test:8",
            ),
            (
                "For=192.0.2.1;PROTO=https;host=outer.test, for=10.0.0.3;proto=http;host=b.test",
                "192.0.2.1:0",
                Scheme::Https,
                "outer.test",
            ),
            ("for=\"1.2.3.4, for=5.6.7.8\"", "10.0.0.9:5", Scheme::Http, "inner.test"),
            ("for=_hidden;proto=https", "10.0.0.9:5", Scheme::Https, "inner.test"),
            ("", "10.0.0.9:5", Scheme::Http, "inner.test"),
        ] {
            let mut request = request(&[("forwarded", value)]);
            let proxies = proxies(ForwardedHeaders::Forwarded);
            let found = resolve_client(&mut request, connection("10.0.0.9:5"), &proxies);
            assert_eq!(
                (found.client.to_string().as_str(), found.scheme),
                (expected, scheme),
                "{value}"
            );
            assert_eq!(request.headers()[header::HOST], host, "{value}");
        }
    }

    #[test]
    fn no_byte_that_a_client_sends_hides_it() {
        for (headers, name, lines) in [
            (ForwardedHeaders::XForwarded, "x-forwarded-for", [b"\xff, 192.0.2.1".as_slice(), b""]),
            (ForwardedHeaders::Forwarded, "forwarded", [b"for=\xff, for=192.0.2.1", b""]),
            (ForwardedHeaders::Forwarded, "forwarded", [b"for=6.6.6.6", b"\xff, for=192.0.2.1"]),
            (ForwardedHeaders::Forwarded, "forwarded", [b"x=\", for=192.0.2.1", b""]),
        ] {
            let mut request = request(&[]);
            for line in lines.into_iter().filter(|line| !line.is_empty()) {
                request.headers_mut().append(name, HeaderValue::from_bytes(line).unwrap());
            }
            let found = resolve_client(&mut request, connection("10.0.0.9:5"), &proxies(headers));
            assert_eq!(found.client.to_string(), "192.0.2.1:0", "{name}");
        }
    }

    #[test]
    fn headers_that_nobody_vouches_for_are_removed() {
        let all = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer.test"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "192.0.2.1"),
            ("forwarded", "for=198.51.100.7"),
        ];
        let left = |client: &str, proxies: &Proxies| {
            let mut request = request(&all);
            let found = resolve_client(&mut request, connection(client), proxies);
            let names: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
            (found.client.to_string(), found.scheme, names.join(" "))
        };
        let x =
            "host x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip";
        let all_names = format!("{x} forwarded");
        let by = proxies;
        for (client, proxies, expected, scheme, names) in [
            ("192.0.2.9:5", by(ForwardedHeaders::XForwarded), "192.0.2.9:5", Scheme::Http, "host"),
            ("10.0.0.9:5", by(ForwardedHeaders::XForwarded), "192.0.2.1:0", Scheme::Https, x),
            (
                "10.0.0.9:5",
                by(ForwardedHeaders::Forwarded),
                "198.51.100.7:0",
                Scheme::Http,
                "host forwarded",
            ),
            ("10.0.0.9:5", Proxies::default(), "10.0.0.9:5", Scheme::Http, all_names.as_str()),
        ] {
            let found = left(client, &proxies);
            assert_eq!(found, (expected.to_owned(), scheme, names.to_owned()));
        }
    }
}
