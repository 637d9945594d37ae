//! The component: connects wasi:http to the pure [`crate::api`].

#![allow(unsafe_code, reason = "the macro that exports the handler writes unsafe code")]

use futures_util::{SinkExt, StreamExt};
use spin_sdk::http::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use spin_sdk::http_component;

use crate::api::{MAX_BODY_BYTES, Reply, Request, Route};
use crate::error::Error;
use crate::snapshot;

#[http_component]
async fn handle(request: IncomingRequest, response: ResponseOutparam) {
    let method = method_name(&request.method()).to_owned();
    let reply = answer(request, &method).await;
    send(reply, &method, response).await;
}

async fn answer(request: IncomingRequest, method: &str) -> Reply {
    let Some(model) = snapshot::model() else { return Reply::error(&Error::NotBaked) };
    let path_with_query = request.path_with_query().unwrap_or_default();
    let query = path_with_query.split_once('?').map_or("", |(_, query)| query);
    let headers = request.headers();
    let text = |name: &str| {
        let lines = headers.get(&name.to_owned());
        let lines: Vec<_> =
            lines.into_iter().filter_map(|line| String::from_utf8(line).ok()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    };
    // Spin's header: the path below a route such as `/vision/...`; empty for an exact route.
    let path = text("spin-path-info").filter(|path| !path.is_empty());
    let path = path.unwrap_or_else(|| path_with_query.split('?').next().unwrap_or("/").to_owned());
    let (content_type, accept) = (text("content-type"), text("accept"));
    let inference_header_length = text("inference-header-content-length");
    drop(headers);
    // Reject a request without a route before reading its body.
    let route = match Route::find(model, method, &path) {
        Ok(route) => route,
        Err(reply) => return reply,
    };
    let body = if route.has_body() { read_body(request).await } else { Ok(Vec::new()) };
    let body = match body {
        Ok(body) => body,
        Err(error) => return route.refuse(&error),
    };
    let request = Request {
        query,
        content_type: content_type.as_deref(),
        accept: accept.as_deref(),
        inference_header_length: inference_header_length.as_deref(),
        body: &body,
    };
    route.respond(model, &request)
}

/// Reads the body, up to the limit.
async fn read_body(request: IncomingRequest) -> Result<Vec<u8>, Error> {
    let mut stream = request.into_body_stream();
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|error| Error::IncompleteBody { reason: format!("{error:?}") })?;
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(Error::BodyTooLarge { limit: MAX_BODY_BYTES });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn send(reply: Reply, method: &str, out: ResponseOutparam) {
    let mut headers = vec![("content-type", reply.content_type.to_owned())];
    if reply.trailers.is_empty() {
        headers.push(("content-length", reply.body.len().to_string()));
    }
    headers.extend(reply.headers);
    let response = OutgoingResponse::new(fields(headers));
    // All statuses in `Error::status` are valid.
    let _ = response.set_status_code(reply.status);
    if !reply.trailers.is_empty() {
        let Ok(body) = response.body() else { return };
        out.set(response);
        return send_with_trailers(body, &reply.body, reply.trailers);
    }
    let mut body = response.take_body();
    out.set(response);
    if method != "HEAD" {
        // If the client has disconnected, there is nothing left to do.
        let _ = body.send(reply.body).await;
    }
}

/// Writes a body that ends with trailers, which the SDK's stream cannot.
fn send_with_trailers(body: OutgoingBody, content: &[u8], trailers: Vec<(&str, String)>) {
    /// The most that wasi:io takes at once.
    const MAX_WRITE_BYTES: usize = 4096;
    if let Ok(stream) = body.write() {
        for piece in content.chunks(MAX_WRITE_BYTES) {
            // If the client has disconnected, there is nothing left to do.
            let _ = stream.blocking_write_and_flush(piece);
        }
    }
    let _ = OutgoingBody::finish(body, Some(fields(trailers)));
}

fn fields(entries: Vec<(&str, String)>) -> Fields {
    let entries: Vec<_> =
        entries.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
    Fields::from_list(&entries).unwrap_or_else(|_| Fields::new())
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}
