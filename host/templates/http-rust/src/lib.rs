//! Answers requests over HTTP.

use spin_sdk::http::{Request, Response};
use spin_sdk::http_component;

/// Greets whoever the path names: `/Ada` gets `Hello, Ada!`.
#[http_component]
fn handle(request: Request) -> Response {
    let path = request.header("spin-path-info").and_then(|path| path.as_str());
    let name = path.unwrap_or_default().trim_matches('/');
    let name = if name.is_empty() { "world" } else { name };
    Response::builder()
        .status(200)
        .header("content-type", "text/plain")
        .body(format!("Hello, {name}!\n"))
        .build()
}
