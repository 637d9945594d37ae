//! From listening sockets to requests: accepts connections, and serves HTTP/1.1 or HTTP/2 on each, with or without TLS.

mod drain;
mod dual_stack;
pub mod listener;
mod open_files;
mod protocol;
mod proxy_protocol;
mod reply_in_flight;
pub mod socket;
pub(crate) mod timeouts;
pub mod tls;
mod unix_socket;
mod write_timeout;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Server;
use crate::client::connection_info::{ConnectionInfo, Scheme};
use crate::client::forwarded;
use crate::client::proxies::Proxies;
use crate::reply::host_error::HostError;
use protocol::{Protocol, Rewind};
use reply_in_flight::ReplyBody;
use socket::Stream;
use timeouts::{ActiveRequest, Activity, DRAIN_TIMEOUT, TimedStream};

/// What a listener does with its connections.
pub(crate) struct ListenerConfig {
    /// `None` for plain HTTP.
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) proxies: Arc<Proxies>,
}

/// Reads the proxy's header and performs the TLS handshake, where the connection has them, then serves it until its
/// end. When `stopping` becomes true, the connection ends with the request in progress, or, if it is idle, soon.
pub(crate) async fn serve(
    server: Arc<Server>,
    mut stream: Stream,
    mut connection: ConnectionInfo,
    ListenerConfig { tls, proxies }: ListenerConfig,
    mut stopping: watch::Receiver<bool>,
) {
    if proxies.expects_proxy_header(connection.client) {
        let read = read_proxy_header(&server, &mut stream, connection, &mut stopping).await;
        let Some(proxied) = read else { return };
        connection = proxied;
    }
    let Some(tls) = tls else {
        return serve_http(server, stream, connection, proxies, stopping).await;
    };
    if let Some(stream) = handshake(&server, stream, &tls, connection, &mut stopping).await {
        let connection = ConnectionInfo { scheme: Scheme::Https, ..connection };
        serve_http(server, stream, connection, proxies, stopping).await;
    }
}

/// Reads a proxy's header. `None` if it is not one, or takes too long, or the proxy has sent nothing by the time the
/// server stops.
async fn read_proxy_header(
    server: &Server,
    stream: &mut Stream,
    connection: ConnectionInfo,
    stopping: &mut watch::Receiver<bool>,
) -> Option<ConnectionInfo> {
    if !first_byte_arrives(server, stream, stopping).await {
        return None;
    }
    let limit = server.limits().header_timeout;
    let (reason, error) =
        match tokio::time::timeout(limit, proxy_protocol::read(stream, connection)).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => ("malformed_proxy_header", error.to_string()),
            Err(_) => ("proxy_header_timeout", format!("it was incomplete after {limit:?}")),
        };
    server.metrics().count_rejected(reason);
    tracing::warn!(client = %connection.client, error, "refused a trusted proxy's PROXY header");
    None
}

/// Waits for a connection's first byte. False if it takes too long, or has not come by the time the server stops.
async fn first_byte_arrives(
    server: &Server,
    stream: &Stream,
    stopping: &mut watch::Receiver<bool>,
) -> bool {
    let limit = server.limits().header_timeout;
    let silent_to_the_end = async {
        drain::requested(stopping).await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        biased;
        begun = tokio::time::timeout(limit, socket::begun(stream)) => matches!(begun, Ok(Ok(()))),
        () = silent_to_the_end => false,
    }
}

/// Performs the TLS handshake. `None` if it fails or takes too long, or the client has sent nothing by the time the
/// server stops.
async fn handshake(
    server: &Server,
    stream: Stream,
    tls: &TlsAcceptor,
    connection: ConnectionInfo,
    stopping: &mut watch::Receiver<bool>,
) -> Option<TlsStream<Stream>> {
    if !first_byte_arrives(server, &stream, stopping).await {
        return None;
    }
    match tokio::time::timeout(server.limits().header_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(client = %connection.client, %error, "the TLS handshake failed");
        }
        Err(_) => tracing::debug!(client = %connection.client, "the TLS handshake took too long"),
    }
    None
}

/// Serves HTTP on a stream until its end, or until `stopping` becomes true.
pub async fn serve_http<S>(
    server: Arc<Server>,
    stream: S,
    connection: ConnectionInfo,
    proxies: Arc<Proxies>,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = server.metrics().track_connection();
    let activity = Arc::new(Activity::default());
    let (handler, requests) = (Arc::clone(&server), Arc::clone(&activity));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (server, active) = (Arc::clone(&handler), requests.begin());
        let connection = forwarded::resolve_client(&mut request, connection, &proxies);
        Box::pin(
            async move { Ok::<_, Infallible>(answer(&server, request, connection, active).await) },
        )
    });
    let limits = server.limits();
    let stream = TimedStream::new(stream, limits, Arc::clone(&activity));
    let (protocol, mut stream) =
        drain::or_drain(&activity, &mut stopping, protocol::detect(stream)).await;
    let ended = match protocol {
        Ok(Protocol::Http2) => {
            stream.get_mut().expect_frames();
            let ended = serve_http2(stream, service, &activity, &mut stopping).await;
            return log_early_end(connection, ended.err());
        }
        Ok(Protocol::Http1) => {
            let mut http = http1::Builder::new()
                // The stream has its own timers: hyper's would run from the end of the previous request.
                .header_read_timeout(None)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            let ended = drain::or_drain(&activity, &mut stopping, &mut http).await;
            stream = http.into_parts().io.into_inner();
            ended.err()
        }
        Err(error) => {
            tracing::debug!(client = %connection.client, %error, "a connection ended early");
            None
        }
    };
    close(&server, stream, connection, ended).await;
}

/// The largest header of a request, in bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// How many requests a client may have in flight on one connection of HTTP/2.
///
/// Nothing here limits resets, CONTINUATION frames, SETTINGS and pings: the defaults of `h2` do.
const MAX_CONCURRENT_STREAMS: u32 = 100;

/// How much of its requests' bodies a client may send on one connection of HTTP/2 before the server has taken any, in
/// bytes: for one request, and for all together.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// How much of a reply waits in `h2` for room in the client's window.
const MAX_SEND_BYTES: usize = 64 << 10;

/// Serves HTTP/2. When the server stops, it tells the client so, and the connection ends with its last request.
async fn serve_http2<S, H, B>(
    stream: Rewind<TimedStream<S>>,
    service: H,
    activity: &Activity,
    stopping: &mut watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: HttpService<Incoming, ResBody = B, Error = Infallible>,
    H::Future: Send + 'static,
    B: Body<Data = bytes::Bytes, Error = wasmtime_wasi_http::Error> + Send + 'static,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(MAX_SEND_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let serve = async {
        tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = drain::requested(stopping) => {
                activity.drain();
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    tokio::select! {
        biased;
        ended = serve => ended,
        // The client may as well be gone: the connection is dropped.
        () = activity.stalled() => Ok(()),
    }
}

/// Closes a connection of HTTP/1.1, with a reply if its client's last header was late.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    server: &Server,
    stream: Rewind<TimedStream<S>>,
    connection: ConnectionInfo,
    ended: Option<hyper::Error>,
) {
    let stream = stream.into_inner();
    let is_header_late = stream.is_header_late();
    let mut stream = stream.into_inner();
    if is_header_late {
        let error = HostError::HeaderTimeout { limit: server.limits().header_timeout };
        server.metrics().count_rejected(error.code());
        write_error(&mut stream, &error).await;
    } else if ended.as_ref().is_some_and(hyper::Error::is_parse) {
        // hyper has already replied.
        server.metrics().count_rejected("malformed_header");
    }
    log_early_end(connection, ended);
    lingering_close(server, stream).await;
}

fn log_early_end(connection: ConnectionInfo, error: Option<hyper::Error>) {
    if let Some(error) = error {
        tracing::debug!(client = %connection.client, %error, "a connection ended early");
    }
}

/// Handles a request, which is active until its body has ended and its reply is written. In a stopping server it is the
/// connection's last.
async fn answer(
    server: &Server,
    request: Request<Incoming>,
    connection: ConnectionInfo,
    active: ActiveRequest,
) -> Response<impl Body<Data = bytes::Bytes, Error = wasmtime_wasi_http::Error> + use<>> {
    let received = active.clone();
    let version = request.version();
    let request = request.map(|body| {
        let body = body.map_err(Into::into).inspect_frame(move |_| {
            let _lives_as_long = &received;
        });
        body.boxed_unsync()
    });
    let mut response = server.handle(request, connection).await;
    // HTTP/2 announces it for the whole connection, not in a reply.
    if server.is_shutting_down() && version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // In HTTP/1.1, a client that does not read blocks the socket, which `WriteTimeout` notices.
    let stall_limit = (version == Version::HTTP_2).then_some(server.limits().body_idle_timeout);
    response.map(|body| ReplyBody::new(body, active, stall_limit))
}

/// Reads and discards input for a while before closing. Otherwise a client that is still sending a rejected
/// body would get a connection reset instead of the reply.
async fn lingering_close(server: &Server, mut stream: impl AsyncRead + Unpin) {
    const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
    let mut buffer = vec![0; 64 << 10];
    let to_the_end = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    let limit = if server.is_shutting_down() { DRAIN_TIMEOUT } else { LINGER_TIMEOUT };
    // After the timeout, the connection is closed even if the client is still sending.
    let _ = tokio::time::timeout(limit, to_the_end).await;
}

/// Writes the reply to a header that took too long: hyper closes such a connection without one.
async fn write_error(stream: &mut (impl AsyncWrite + Unpin), error: &HostError) {
    let (status, body) = (error.status(), error.body());
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Best effort: the client may be gone, or not reading.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(reply.as_bytes())).await;
}
