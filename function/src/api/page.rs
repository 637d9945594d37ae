//! The page at `GET /`, where a user can try a picture. It consists of a few files and makes no request to any other
//! host, and its Content Security Policy has the browser enforce this.

use super::{Reply, Request};
use crate::error::Error;
use crate::model::Model;

/// Allows scripts, styles and requests from this origin only, and none inline (CSP level 3). `blob:` is the picture
/// that the user chose.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(super) fn index(_: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(file("text/html; charset=utf-8", include_str!("../../page/index.html"))
        .with_header("content-security-policy", CONTENT_SECURITY_POLICY)
        .with_header("referrer-policy", "no-referrer"))
}

/// `GET /page.css`.
pub(super) fn style(_: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(file("text/css; charset=utf-8", include_str!("../../page/page.css")))
}

/// `GET /page.js`.
pub(super) fn script(_: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(file("text/javascript; charset=utf-8", include_str!("../../page/page.js")))
}

/// `GET /icon.svg`.
pub(super) fn icon(_: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(file("image/svg+xml", include_str!("../../page/icon.svg")))
}

/// `GET /openapi.json`: the description of all APIs, which a test generates from the types of requests and replies.
pub(super) fn openapi(_: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(file("application/json", include_str!("../../page/openapi.json")))
}

fn file(content_type: &'static str, content: &str) -> Reply {
    Reply::new(200, content_type, content.as_bytes().to_vec())
        .with_header("x-content-type-options", "nosniff")
        .with_header("cache-control", "no-cache")
}
