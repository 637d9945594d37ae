//! Replies with a variable and the request's body.

#![cfg(target_arch = "wasm32")]

use spin_sdk::http::body::IncomingBodyExt;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::{http_service, variables};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let body = request.into_body().bytes().await.unwrap_or_default();
    let greeting = variables::get("greeting").await.unwrap_or_default();
    format!("{greeting}, {}", String::from_utf8_lossy(&body))
}
