//! The host that a request is for (RFC 9112, sections 3.2 and 3.2.2).

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Version, header};

use crate::reply::host_error::HostError;

/// Checks a client's `Host`. If the request's target names a host itself, that one replaces `Host`.
///
/// # Errors
/// If there is more than one `Host`, one that is not a host, or none in HTTP/1.1.
pub(crate) fn normalize<B>(request: &mut Request<B>) -> Result<(), HostError> {
    let refused = |reason: &str| Err(HostError::BadRequest { reason: reason.to_owned() });
    match request.headers().get_all(header::HOST).iter().count() {
        0 if request.version() == Version::HTTP_11 => {
            return refused("the request has no Host header, which HTTP/1.1 requires");
        }
        0 | 1 => {}
        _ => return refused("the request has more than one Host header; send one"),
    }
    let target = request.uri().authority();
    if let Some(host) = target.and_then(|host| HeaderValue::try_from(host.as_str()).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    host(request.headers()).map(drop)
}

/// The host and port in `Host`; `None` if there is no such header, or it is empty.
///
/// # Errors
/// If it is not a host.
pub(crate) fn host(headers: &HeaderMap) -> Result<Option<Authority>, HostError> {
    let host = match headers.get(header::HOST).map(HeaderValue::as_bytes) {
        None | Some([]) => return Ok(None),
        Some(host) => host,
    };
    match Authority::try_from(host) {
        // User information before an @ is not part of the host.
        Ok(authority) if !host.contains(&b'@') => Ok(Some(authority)),
        _ => Err(HostError::BadRequest {
            reason: format!("{:?} is not a host", String::from_utf8_lossy(host)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::normalize;
    use http::{Request, Version, header};

    fn request(target: &str, hosts: &[&str], version: Version) -> Request<()> {
        let mut request = Request::get(target).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn each_request_is_for_one_host() {
        for (target, hosts, version, expected) in [
            ("/a", ["a"].as_slice(), Version::HTTP_11, Some("a")),
            ("/a", &[""], Version::HTTP_11, Some("")),
            ("/a", &[], Version::HTTP_11, None),
            ("/a", &["a", "a"], Version::HTTP_11, None),
            ("/a", &["a", "b"], Version::HTTP_10, None),
            ("/a", &["a/b"], Version::HTTP_11, None),
            ("/a", &["user@a"], Version::HTTP_11, None),
            ("http://b:81/a", &["a"], Version::HTTP_11, Some("b:81")),
            ("http://user@b/a", &["a"], Version::HTTP_11, None),
        ] {
            let mut request = request(target, hosts, version);
            let is_accepted = normalize(&mut request).is_ok();
            assert_eq!(is_accepted, expected.is_some(), "{target} {hosts:?}");
            if let Some(expected) = expected {
                assert_eq!(request.headers()[header::HOST], expected, "{target} {hosts:?}");
            }
        }
        assert!(normalize(&mut request("/a", &[], Version::HTTP_10)).is_ok());
    }
}
