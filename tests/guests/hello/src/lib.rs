//! Answers every request with `hello`.

#![cfg(target_arch = "wasm32")]

use spin_sdk::http::{Request, Response};
use spin_sdk::http_component;

#[http_component]
fn hello(_: Request) -> Response {
    Response::new(200, "hello")
}
