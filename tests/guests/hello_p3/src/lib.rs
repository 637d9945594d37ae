//! Says how long the body is, in a reply that streams after the handler has returned; traps,
//! loops or stays silent where its path says so.

#![cfg(target_arch = "wasm32")]

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

wasip3::http::service::export!(Hello);

struct Hello;

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match request.get_path_with_query().unwrap_or_default().as_str() {
            "/p3/trap" => std::arch::wasm32::unreachable(),
            "/p3/loop" => loop {
                std::hint::spin_loop();
            },
            "/p3/error" => return Err(ErrorCode::InternalError(None)),
            _ => {}
        }
        let (_, unread) = wit_future::new(|| Ok(()));
        let (body, _trailers) = Request::consume_body(request, unread);
        let length = body.collect().await.len();
        let (mut writer, reader) = wit_stream::new();
        let (trailers, no_trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(reader), no_trailers);
        wit_bindgen::spawn(async move {
            writer.write_all(format!("{length} bytes, ").into_bytes()).await;
            writer.write_all(b"by WASI 0.3".to_vec()).await;
            drop(trailers);
        });
        Ok(response)
    }
}
