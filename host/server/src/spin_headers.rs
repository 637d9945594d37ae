//! The `spin-*` headers that Spin adds to a component's request
//! (<https://spinframework.dev/http-trigger#additional-request-information>).

use http::{HeaderName, HeaderValue, Request, Uri};

use crate::client::address::Address;
use crate::client::connection_info::ConnectionInfo;
use crate::client::host_header;
use crate::reply::host_error::HostError;
use spotter_app::routes::Match;

const SPIN_HEADER_PREFIX: &str = "spin-";

const FULL_URL: HeaderName = HeaderName::from_static("spin-full-url");
const PATH_INFO: HeaderName = HeaderName::from_static("spin-path-info");
const MATCHED_ROUTE: HeaderName = HeaderName::from_static("spin-matched-route");
const RAW_COMPONENT_ROUTE: HeaderName = HeaderName::from_static("spin-raw-component-route");
const COMPONENT_ROUTE: HeaderName = HeaderName::from_static("spin-component-route");
const BASE_PATH: HeaderName = HeaderName::from_static("spin-base-path");
const CLIENT_ADDR: HeaderName = HeaderName::from_static("spin-client-addr");

/// Makes the URI absolute and adds the headers. Any `spin-*` headers that the client sent are removed first.
///
/// # Errors
/// If `Host` is not a host: it could change the path, and a guest must see the path that selected it.
pub(crate) fn add<B>(
    request: &mut Request<B>,
    found: &Match<'_>,
    connection: ConnectionInfo,
) -> Result<(), HostError> {
    let full = full_url(request, connection)?;
    let headers = request.headers_mut();
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(SPIN_HEADER_PREFIX))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    let mut add = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    };
    let pattern = found.pattern.to_string();
    add(FULL_URL, full.to_string());
    add(PATH_INFO, found.path_info.clone());
    add(MATCHED_ROUTE, pattern.clone());
    add(RAW_COMPONENT_ROUTE, pattern);
    add(COMPONENT_ROUTE, found.pattern.base());
    add(BASE_PATH, "/".to_owned());
    add(CLIENT_ADDR, connection.client.to_string());
    for (name, value) in &found.parameters {
        let name = format!("spin-path-match-{}", name.replace('_', "-").to_lowercase());
        if let Ok(name) = HeaderName::try_from(name) {
            add(name, value.clone());
        }
    }
    *request.uri_mut() = full;
    Ok(())
}

fn full_url<B>(request: &Request<B>, connection: ConnectionInfo) -> Result<Uri, HostError> {
    let authority = match host_header::host(request.headers())? {
        Some(authority) => authority.to_string(),
        None => match connection.local {
            Address::Inet(local) => local.to_string(),
            Address::Unix => "localhost".to_owned(),
        },
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(connection.scheme.as_str()).authority(authority.as_str());
    let refused = |_| HostError::BadRequest { reason: format!("{authority:?} is not a host") };
    uri.path_and_query(path).build().map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::{Address, add};
    use crate::client::connection_info::{ConnectionInfo, Scheme};
    use http::Request;
    use spotter_app::routes::{Pattern, RouteTable, Target};

    #[test]
    fn a_guest_sees_its_route_and_its_client_and_no_forged_header() {
        let mut routes = RouteTable::default();
        let pattern = Pattern::parse("/users/:id/...").unwrap();
        routes.insert(pattern, Target::Component("users".into())).unwrap();
        let mut request = Request::get("/users/7/posts?page=2")
            .header("host", "example.com")
            .header("spin-client-addr", "forged")
            .header("spin-anything", "forged")
            .body(())
            .unwrap();
        let connection = ConnectionInfo {
            client: Address::Inet("10.0.0.9:5000".parse().unwrap()),
            local: Address::Inet("127.0.0.1:3000".parse().unwrap()),
            scheme: Scheme::Https,
        };
        let (_, found) = routes.find("/users/7/posts").unwrap();
        add(&mut request, &found, connection).unwrap();
        let expected = [
            ("spin-full-url", "https://example.com/users/7/posts?page=2"),
            ("spin-path-info", "/posts"),
            ("spin-matched-route", "/users/:id/..."),
            ("spin-component-route", "/users/:id"),
            ("spin-path-match-id", "7"),
            ("spin-client-addr", "10.0.0.9:5000"),
        ];
        for (name, value) in expected {
            assert_eq!(request.headers().get(name).unwrap(), value, "{name}");
        }
        assert_eq!(request.headers().get_all("spin-client-addr").iter().count(), 1);
        assert!(request.headers().get("spin-anything").is_none());
        assert_eq!(request.uri(), "https://example.com/users/7/posts?page=2");
    }

    #[test]
    fn a_host_that_would_change_the_path_is_refused() {
        let mut routes = RouteTable::default();
        routes.insert(Pattern::parse("/public").unwrap(), Target::Component("a".into())).unwrap();
        let (_, found) = routes.find("/public").unwrap();
        let here = Address::Inet("127.0.0.1:3000".parse().unwrap());
        let connection = ConnectionInfo { client: here, local: here, scheme: Scheme::Http };
        for host in ["x/admin?", "x?y", "x#y", "a b", "user@x", "x:y:z/"] {
            let mut request = Request::get("/public").header("host", host).body(()).unwrap();
            assert!(add(&mut request, &found, connection).is_err(), "{host}");
        }
        let mut request = Request::get("/public").header("host", "[::1]:80").body(()).unwrap();
        add(&mut request, &found, connection).unwrap();
        assert_eq!(request.uri(), "http://[::1]:80/public");
    }
}
