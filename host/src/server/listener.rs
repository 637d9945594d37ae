//! Accepts connections, serves HTTP/1.1 on them, and shuts down gracefully.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::fault::Fault;
use super::min_rate::MinRateStream;
use super::{Connection, Scheme, Server, descriptors};

/// Binds an address. Port 0 selects any free port.
///
/// # Errors
/// If the address is in use, or does not belong to this machine.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address}; choose another address with --listen (port 0 selects any free port)"
        )
    })
}

/// SIGTERM and SIGINT, the signals that stop the server.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs handlers, so that these signals no longer terminate the process.
    ///
    /// # Errors
    /// If the system refuses to install a handler.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot receive SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot receive SIGINT")?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The socket of the public listener.
pub struct Listener {
    pub socket: TcpListener,
    /// `None` for plain HTTP.
    pub tls: Option<TlsAcceptor>,
}

/// Serves until the first signal. Then it accepts no more connections, waits up to the grace period for
/// requests in flight, and returns. A second signal makes it return immediately.
pub async fn serve(server: Arc<Server>, listener: Listener, mut signals: StopSignals) {
    let (stop, stopping) = watch::channel(false);
    let tasks = TaskTracker::new();
    let limits = server.limits();
    let connections = descriptors::connections(limits.connections, limits.instances);
    let permits = Arc::new(Semaphore::new(connections));
    let Listener { socket, tls } = listener;
    let spawn_connection = |permit, stream, connection| {
        let (server, tls, stopping) = (Arc::clone(&server), tls.clone(), stopping.clone());
        tasks.spawn(async move {
            handshake_and_serve(server, stream, tls, connection, stopping).await;
            drop::<OwnedSemaphorePermit>(permit);
        });
    };
    loop {
        // Until a permit is free, connections wait in the kernel's backlog.
        let permit = Arc::clone(&permits).acquire_owned();
        let accepted = async { (permit.await, socket.accept().await) };
        tokio::select! {
            (Ok(permit), accepted) = accepted => match prepare(accepted) {
                Ok((stream, connection)) => spawn_connection(permit, stream, connection),
                Err(error) => {
                    // Probably out of file descriptors: an immediate retry would fail too.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = signals.next() => break,
        }
    }
    server.begin_shutdown();
    // Serve the connections in the kernel's backlog too: closing the socket would reset them.
    for accepted in pending_connections(socket) {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { break };
        if let Ok((stream, connection)) = prepare(accepted) {
            spawn_connection(permit, stream, connection);
        }
    }
    stop.send_replace(true);
    drain(server, &tasks, &mut signals).await;
}

/// Waits until all connections and guests have finished, the grace period is over, or a signal arrives.
async fn drain(server: Arc<Server>, tasks: &TaskTracker, signals: &mut StopSignals) {
    let grace = server.limits().grace;
    tracing::info!(connections = tasks.len(), ?grace, "stopping: finishing the requests in flight");
    tasks.close();
    let finish = async {
        tasks.wait().await;
        server.finish().await;
    };
    tokio::select! {
        () = finish => tracing::info!("stopped: all requests have finished"),
        () = tokio::time::sleep(grace) => tracing::warn!(?grace, "stopped: not all requests have finished"),
        () = signals.next() => tracing::warn!("stopped immediately: a second signal arrived"),
    }
}

/// The connections in the kernel's backlog. Waits for no further ones; dropping the iterator closes the
/// socket.
fn pending_connections(
    socket: TcpListener,
) -> impl Iterator<Item = io::Result<(TcpStream, SocketAddr)>> {
    let socket = socket.into_std().ok();
    std::iter::from_fn(move || {
        let (stream, client) = socket.as_ref()?.accept().ok()?;
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        Some(stream.map(|stream| (stream, client)))
    })
}

fn prepare(accepted: io::Result<(TcpStream, SocketAddr)>) -> io::Result<(TcpStream, Connection)> {
    let (stream, client) = accepted?;
    // Replies are written in one go, so Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, Connection { client, local, scheme: Scheme::Http }))
}

/// Performs the TLS handshake, if TLS is on, then serves the connection.
async fn handshake_and_serve(
    server: Arc<Server>,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    connection: Connection,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(tls) = tls else {
        return serve_connection(server, stream, connection, stopping).await;
    };
    let handshake = tokio::time::timeout(server.limits().header_timeout, tls.accept(stream));
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = shutdown_requested(&mut stopping) => return,
    };
    match handshake {
        Ok(Ok(stream)) => {
            let connection = Connection { scheme: Scheme::Https, ..connection };
            serve_connection(server, stream, connection, stopping).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(client = %connection.client, %error, "the TLS handshake failed");
        }
        Err(_) => tracing::debug!(client = %connection.client, "the TLS handshake took too long"),
    }
}

async fn serve_connection<S>(
    server: Arc<Server>,
    stream: S,
    connection: Connection,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = server.metrics().track_connection();
    let (header_timeout, body_idle_timeout) =
        (server.limits().header_timeout, server.limits().body_idle_timeout);
    let handler = Arc::clone(&server);
    let service = service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&handler);
        Box::pin(async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, Infallible>(server.handle(request, connection).await)
        })
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(MinRateStream::new(stream, body_idle_timeout)), service);
    let ended = tokio::select! {
        ended = &mut http => ended,
        () = shutdown_requested(&mut stopping) => {
            std::pin::Pin::new(&mut http).graceful_shutdown();
            (&mut http).await
        }
    };
    let parts = http.into_parts();
    let mut stream = parts.io.into_inner();
    if let Err(error) = ended {
        tracing::debug!(client = %connection.client, %error, "a connection ended early");
        // An idle connection is closed without a reply.
        if error.is_timeout() && !parts.read_buf.is_empty() {
            let fault = Fault::HeaderTimeout { limit: header_timeout };
            server.metrics().count_rejected(fault.code());
            write_fault(&mut stream, &fault).await;
        } else if error.is_parse() {
            // hyper has already replied.
            server.metrics().count_rejected("malformed_header");
        }
    }
    if !server.is_shutting_down() {
        lingering_close(stream).await;
    }
}

/// Waits until shutdown begins.
async fn shutdown_requested(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender, and so the server, is gone.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

/// Reads and discards input for a while before closing. Otherwise a client that is still sending a rejected
/// body would get a connection reset instead of the reply.
async fn lingering_close(mut stream: impl AsyncRead + Unpin) {
    const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
    let mut buffer = vec![0; 64 << 10];
    let to_the_end = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    // After the timeout, the connection is closed even if the client is still sending.
    let _ = tokio::time::timeout(LINGER_TIMEOUT, to_the_end).await;
}

/// Writes the reply to a header that took too long: hyper closes such a connection without one.
async fn write_fault(stream: &mut (impl AsyncWrite + Unpin), fault: &Fault) {
    let (status, body) = (fault.status(), fault.body());
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // Best effort: the client may be gone, or not reading.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(reply.as_bytes())).await;
}
