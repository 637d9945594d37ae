//! The request as a CGI program sees it (RFC 3875, <https://www.rfc-editor.org/rfc/rfc3875>): its environment
//! variables, with those that Spin adds, and its arguments.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use percent_encoding::percent_decode_str;

/// The headers that do not become variables. Spin leaves out the first two, as RFC 3875 suggests for credentials. A
/// program could mistake the variables of the others, such as `HTTP_PROXY`, for its own configuration.
const HIDDEN_HEADERS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy"),
];

/// The variables of a request whose body has `length` bytes. The request has Spin's headers already.
pub(crate) fn variables(request: &Parts, length: u64) -> BTreeMap<String, String> {
    let headers = &request.headers;
    let own = |name: &str| text(headers, &HeaderName::from_bytes(name.as_bytes()).ok());
    let path_info = own("spin-path-info");
    let decoded = decode(&path_info);
    let client = own("spin-client-addr");
    let client_ip =
        client.parse().map_or(client.clone(), |client: SocketAddr| client.ip().to_string());
    let uri = &request.uri;
    let is_https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let script = uri.path().strip_suffix(path_info.as_str()).unwrap_or(uri.path());
    let mut variables: BTreeMap<String, String> = [
        ("AUTH_TYPE", String::new()),
        ("CONTENT_LENGTH", length.to_string()),
        ("CONTENT_TYPE", text(headers, &Some(header::CONTENT_TYPE))),
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("PATH_INFO", decoded.clone()),
        ("PATH_TRANSLATED", decoded),
        ("QUERY_STRING", uri.query().unwrap_or_default().to_owned()),
        ("REMOTE_ADDR", client_ip.clone()),
        ("REMOTE_HOST", client_ip),
        ("REMOTE_USER", String::new()),
        ("REQUEST_METHOD", request.method.to_string()),
        ("SCRIPT_NAME", script.to_owned()),
        ("SERVER_NAME", uri.host().unwrap_or_default().to_owned()),
        ("SERVER_PORT", port.to_string()),
        ("SERVER_PROTOCOL", format!("{:?}", request.version)),
        ("SERVER_SOFTWARE", concat!("spotter/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("X_RAW_PATH_INFO", path_info),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for name in headers.keys() {
        // `a_b` would be the same variable as `a-b`, so that a client could forge Spin's headers.
        if name.as_str().contains('_') || HIDDEN_HEADERS.contains(name) {
            continue;
        }
        let value = text(headers, &Some(name.clone()));
        let variable = name.as_str().to_uppercase().replace('-', "_");
        match variable.strip_prefix("SPIN_") {
            Some("PATH_INFO") | None => {}
            Some(own) => drop(variables.insert(format!("X_{own}"), value.clone())),
        }
        variables.insert(format!("HTTP_{variable}"), value);
    }
    variables
}

/// The program's arguments: the words of `template`, in which `${SCRIPT_NAME}` stands for the request's path and
/// `${ARGS}` for the parts of its query, each an argument.
pub(super) fn arguments(template: &str, request: &Parts) -> Vec<String> {
    let query = request.uri.query().unwrap_or_default().replace('&', " ");
    let filled = template.replace("${SCRIPT_NAME}", request.uri.path()).replace("${ARGS}", &query);
    filled.split_whitespace().map(str::to_owned).collect()
}

/// The value of a header; if there are several, all of them.
fn text(headers: &HeaderMap, name: &Option<HeaderName>) -> String {
    let Some(name) = name else { return String::new() };
    let separator = if *name == header::COOKIE { "; " } else { ", " };
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(separator)
}

/// The percent-decoded path. It stays encoded if the result is not text, or contains a NUL, which would end the
/// variable.
fn decode(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8().ok();
    decoded.filter(|decoded| !decoded.contains('\0')).map_or(path.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::{arguments, variables};
    use http::Request;
    use http::request::Parts;

    fn request(uri: &str, path_info: &str) -> Parts {
        let request = Request::get(uri)
            .header("spin-path-info", path_info)
            .header("spin-full-url", uri)
            .header("spin-client-addr", "[::1]:5000")
            .header("spin-path-match-user-id", "7")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("spin_full_url", "forged")
            .header("authorization", "secret")
            .header("proxy", "evil.example.com");
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_program_sees_its_request_and_nothing_that_a_client_forges() {
        let seen = variables(&request("https://a.example:8443/u/7/x%20y?q=1", "/x%20y"), 5);
        for (name, value) in [
            ("CONTENT_LENGTH", "5"),
            ("PATH_INFO", "/x y"),
            ("X_RAW_PATH_INFO", "/x%20y"),
            ("SCRIPT_NAME", "/u/7"),
            ("QUERY_STRING", "q=1"),
            ("REMOTE_ADDR", "::1"),
            ("SERVER_NAME", "a.example"),
            ("SERVER_PORT", "8443"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("X_FULL_URL", "https://a.example:8443/u/7/x%20y?q=1"),
            ("HTTP_SPIN_FULL_URL", "https://a.example:8443/u/7/x%20y?q=1"),
            ("X_CLIENT_ADDR", "[::1]:5000"),
            ("X_PATH_MATCH_USER_ID", "7"),
        ] {
            assert_eq!(seen.get(name).map(String::as_str), Some(value), "{name}");
        }
        for name in ["HTTP_AUTHORIZATION", "HTTP_PROXY", "X_PATH_INFO"] {
            assert_eq!(seen.get(name), None, "{name}");
        }
        // A C string would end at the NUL.
        let seen = variables(&request("http://a/secret%00.txt", "/secret%00.txt"), 0);
        assert_eq!(seen["PATH_INFO"], "/secret%00.txt");
    }

    #[test]
    fn arguments_are_the_path_and_the_parts_of_the_query() {
        let request = request("http://a/run?x=1&y&z=%20", "");
        let default = "${SCRIPT_NAME} ${ARGS}";
        assert_eq!(arguments(default, &request), ["/run", "x=1", "y", "z=%20"]);
        assert_eq!(
            arguments("main -q ${ARGS} end", &request),
            ["main", "-q", "x=1", "y", "z=%20", "end"]
        );
        let plain = Request::get("http://a/run").body(()).unwrap().into_parts().0;
        assert_eq!(arguments(default, &plain), ["/run"]);
    }
}
