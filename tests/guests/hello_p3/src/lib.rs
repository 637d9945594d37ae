//! Replies with the length of the body, in a stream that continues after the handler has returned. On other paths,
//! it passes the body on, fetches the URL in the body, tells the request's host, traps, loops, or never replies.

#![cfg(target_arch = "wasm32")]

use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
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
            "/p3/wait" => monotonic_clock::wait_for(u64::MAX / 2).await,
            "/p3/echo" => {
                let (_, unread) = wit_future::new(|| Ok(()));
                let (body, trailers) = Request::consume_body(request, unread);
                return Ok(Response::new(Fields::new(), Some(body), trailers).0);
            }
            "/p3/fetch" => return fetch(request).await,
            "/p3/host" => {
                let hosts = request.get_headers().get("host");
                return Ok(reply(hosts.join(b", ".as_slice())));
            }
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

/// A reply with this body.
fn reply(body: Vec<u8>) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    wit_bindgen::spawn(async move {
        writer.write_all(body).await;
    });
    Response::new(Fields::new(), Some(reader), no_trailers).0
}

/// The reply of `http://BODY/guest/hello`, passed on as it arrives.
async fn fetch(request: Request) -> Result<Response, ErrorCode> {
    let (_, unread) = wit_future::new(|| Ok(()));
    let (body, _) = Request::consume_body(request, unread);
    let authority = String::from_utf8_lossy(&body.collect().await).into_owned();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (outgoing, _sent) = Request::new(Fields::new(), None, no_trailers, None);
    let refused = |()| ErrorCode::HttpRequestUriInvalid;
    outgoing.set_scheme(Some(&Scheme::Http)).map_err(refused)?;
    outgoing.set_authority(Some(&authority)).map_err(refused)?;
    outgoing.set_path_with_query(Some("/guest/hello")).map_err(refused)?;
    client::send(outgoing).await
}
