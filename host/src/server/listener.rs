//! The socket: accepts connections, speaks HTTP/1.1 with them, and stops in an orderly way.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use super::{Connection, Server};

/// How long requests in flight may take to finish once the server stops.
const GRACE: Duration = Duration::from_secs(30);

/// Binds an address; port 0 takes any free one.
///
/// # Errors
/// An address in use, or not of this machine, with what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}; choose another address with --listen (port 0 takes any)"
        )
    })
}

/// Serves until SIGTERM or SIGINT, then finishes what is in flight; a second signal stops at once.
///
/// # Errors
/// Where signals cannot be received.
pub async fn serve(server: Arc<Server>, listener: TcpListener) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot receive SIGINT")?;
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => accept(&server, accepted, &graceful).await,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    tracing::info!("stopping: finishing what is in flight");
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(GRACE) => tracing::warn!(?GRACE, "not all requests have finished"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn accept(
    server: &Arc<Server>,
    accepted: io::Result<(TcpStream, SocketAddr)>,
    graceful: &GracefulShutdown,
) {
    let connection = accepted.and_then(|(stream, client)| {
        // Replies are small and whole: waiting to fill a packet only delays them.
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok((stream, Connection { client, local }))
    });
    match connection {
        Ok((stream, connection)) => converse(Arc::clone(server), stream, connection, graceful),
        Err(error) => {
            // Out of descriptors, most likely: the next try would fail as fast.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn converse(
    server: Arc<Server>,
    stream: TcpStream,
    connection: Connection,
    graceful: &GracefulShutdown,
) {
    let header_time = server.limits().header_time;
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let server = Arc::clone(&server);
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, Infallible>(server.respond(request, connection).await)
        }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .serve_connection(TokioIo::new(stream), service);
    let conversation = graceful.watch(conversation);
    tokio::spawn(async move {
        if let Err(error) = conversation.await {
            tracing::debug!(client = %connection.client, %error, "a connection ended early");
        }
    });
}
