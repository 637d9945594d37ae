//! An application for Spin's Rust SDK 3.

use futures::{SinkExt, StreamExt};
use spin_sdk::http::{
    Headers, IncomingRequest, Method, OutgoingResponse, Request, Response, ResponseOutparam,
};
use spin_sdk::http_component;
use spin_sdk::key_value::Store;
use spin_sdk::variables;

#[http_component]
async fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let header = |name: &str| {
        let values = request.headers().get(&name.to_owned());
        values.first().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    let path = header("spin-path-info");
    if path == "/echo" {
        return echo(request, outparam).await;
    }
    let route = header("spin-matched-route").into_bytes();
    let body = match reply(&path, request).await {
        Ok(body) => body,
        Err(error) => format!("{error:#}").into_bytes(),
    };
    let headers = Headers::from_list(&[("x-route".to_owned(), route)]).expect("a header");
    let response = OutgoingResponse::new(headers);
    outparam.set_with_body(response, body).await.expect("the client takes the body");
}

async fn reply(path: &str, request: IncomingRequest) -> anyhow::Result<Vec<u8>> {
    match path {
        "/other" => {
            let request = Request::get("http://self/app/hello").build();
            let reply: Response = spin_sdk::http::send(request).await?;
            Ok([b"it says: ", reply.body()].concat())
        }
        "/without-host" => {
            let reply: Response = spin_sdk::http::send(Request::get("/app/hello").build()).await?;
            Ok(reply.into_body())
        }
        "/denied" => {
            let request = Request::get("http://example.com/").build();
            let reply: Response = spin_sdk::http::send(request).await?;
            Ok(reply.into_body())
        }
        "/stored" => {
            let store = Store::open_default()?;
            if matches!(request.method(), Method::Post) {
                store.set("note", &request.into_body().await?)?;
            }
            Ok(store.get("note")?.unwrap_or_default())
        }
        "/variable" => Ok(variables::get("greeting")?.into_bytes()),
        _ => Ok(b"hello".to_vec()),
    }
}

/// Sends the request's body back, part by part.
async fn echo(request: IncomingRequest, outparam: ResponseOutparam) {
    let response = OutgoingResponse::new(Headers::new());
    let mut reply = response.take_body();
    outparam.set(response);
    let mut body = request.into_body_stream();
    while let Some(part) = body.next().await {
        reply.send(part.expect("a part of the body")).await.expect("the client takes it");
    }
}
