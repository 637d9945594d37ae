//! The admin listener: `/metrics`, `/healthz` and `/readyz`, which answer however busy the guests are.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::Server;
use crate::connection::timeouts::{Activity, TimedStream};
use spotter_config::Limits;

/// How many connections may be open at once.
const MAX_ADMIN_CONNECTIONS: usize = 32;
/// How long a connection may stay idle between requests, and a header may take.
const ADMIN_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the process ends, on its own thread, because guests may occupy all others. It does not keep the server
/// alive: dropping the server closes its files and its database.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(server: &Arc<Server>, listener: std::net::TcpListener) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the admin listener")?;
    listener.set_nonblocking(true)?;
    let limits = Limits {
        header_timeout: ADMIN_IDLE_TIMEOUT,
        keep_alive_timeout: ADMIN_IDLE_TIMEOUT,
        ..*server.limits()
    };
    let server = Arc::downgrade(server);
    let run = move || {
        runtime.block_on(async {
            match TcpListener::from_std(listener) {
                Ok(listener) => serve(server, listener, limits).await,
                Err(error) => tracing::error!(%error, "the admin listener could not start"),
            }
        });
    };
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(run)
        .context("cannot start the admin listener")?;
    Ok(())
}

async fn serve(server: Weak<Server>, listener: TcpListener, limits: Limits) {
    let permits = Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            // Probably out of file descriptors: an immediate retry would fail too.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let activity = Arc::new(Activity::default());
        let (handler, requests) = (Weak::clone(&server), Arc::clone(&activity));
        let service = service_fn(move |request: Request<Incoming>| {
            // Complete as soon as it has begun.
            drop(requests.begin());
            let server = handler.upgrade();
            let response = answer(server.as_deref(), request.method(), request.uri().path());
            async { Ok::<_, Infallible>(response) }
        });
        let stream = TokioIo::new(TimedStream::new(stream, &limits, activity));
        tokio::spawn(async move {
            // A probe that disconnects is not worth a log line.
            let _ = http1::Builder::new()
                // The stream has timers of its own.
                .header_read_timeout(None)
                // A probe such as `nc -N` closes its side before it has its reply.
                .half_close(true)
                .serve_connection(stream, service)
                .await;
            drop(permit);
        });
    }
}

/// The reply; `server` is `None` in the last moments of the process.
fn answer(server: Option<&Server>, method: &Method, path: &str) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (status, content_type, body) = match (path, server) {
        _ if method != Method::GET && method != Method::HEAD => (
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "only GET and HEAD are allowed here\n".to_owned(),
        ),
        ("/healthz", _) => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        ("/metrics", Some(server)) => (StatusCode::OK, OPEN_METRICS, server.metrics().encode()),
        ("/readyz", Some(server)) if !server.is_shutting_down() => {
            (StatusCode::OK, TEXT, "ready\n".to_owned())
        }
        ("/metrics" | "/readyz", _) => {
            (StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n".to_owned())
        }
        _ => {
            let help = "not found; the paths are /metrics, /healthz and /readyz\n";
            (StatusCode::NOT_FOUND, TEXT, help.to_owned())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
