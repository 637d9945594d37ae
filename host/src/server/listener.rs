//! The socket: accepts connections, speaks HTTP/1.1 with them, and stops in an orderly way.

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

/// SIGTERM and SIGINT, the ways a server is told to stop.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on, the signals do not end the process by themselves.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot receive SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot receive SIGINT")?,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where connections come in.
pub struct Listener {
    pub socket: TcpListener,
    /// Encrypts them, where there is one.
    pub tls: Option<TlsAcceptor>,
}

/// Serves until the first signal; then refuses new connections, finishes what is in flight within
/// the grace period, and returns. A second signal ends the wait at once.
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
        // A connection waits in the kernel until there is a place for it.
        let permit = Arc::clone(&permits).acquire_owned();
        let accepted = async { (permit.await, socket.accept().await) };
        tokio::select! {
            (Ok(permit), accepted) = accepted => match prepare(accepted) {
                Ok((stream, connection)) => spawn_connection(permit, stream, connection),
                Err(error) => {
                    // Out of descriptors, most likely: the next try would fail as fast.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = signals.next() => break,
        }
    }
    server.begin_shutdown();
    // The kernel has connections whose clients know of no refusal: to close would reset them.
    for accepted in pending_connections(socket) {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { break };
        if let Ok((stream, connection)) = prepare(accepted) {
            spawn_connection(permit, stream, connection);
        }
    }
    stop.send_replace(true);
    drain(server, &tasks, &mut signals).await;
}

/// Waits until every connection, and what guests still do, has come to its end: for the grace period, or
/// until the next signal.
async fn drain(server: Arc<Server>, tasks: &TaskTracker, signals: &mut StopSignals) {
    let grace = server.limits().grace;
    tracing::info!(connections = tasks.len(), ?grace, "stopping: finishing what is in flight");
    tasks.close();
    let finish = async {
        tasks.wait().await;
        server.finish().await;
    };
    tokio::select! {
        () = finish => tracing::info!("stopped: all requests have finished"),
        () = tokio::time::sleep(grace) => tracing::warn!(?grace, "stopped: not all requests have finished"),
        () = signals.next() => tracing::warn!("stopped at once: a second signal"),
    }
}

/// The connections that wait to be accepted, without waiting for more; then the socket is closed.
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
    // Replies are small and whole: waiting to fill a packet only delays them.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, Connection { client, local, scheme: Scheme::Http }))
}

/// Sees to the encryption of a connection, where there is any, before anything is said.
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
        Ok(Err(error)) => tracing::debug!(client = %connection.client, %error, "no TLS handshake"),
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
        // A connection that was merely idle is closed without a word.
        if error.is_timeout() && !parts.read_buf.is_empty() {
            let fault = Fault::HeaderTimeout { limit: header_timeout };
            server.metrics().count_rejected(fault.code());
            write_fault(&mut stream, &fault).await;
        } else if error.is_parse() {
            // hyper has answered that itself.
            server.metrics().count_rejected("malformed_header");
        }
    }
    if !server.is_shutting_down() {
        lingering_close(stream).await;
    }
}

/// Waits until the server is told to stop.
async fn shutdown_requested(stopping: &mut watch::Receiver<bool>) {
    // An error is the end of the server itself.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

/// Reads on for a moment, and throws away what comes: a client that is still sending a body which was
/// refused would otherwise lose the reply to a reset connection.
async fn lingering_close(mut stream: impl AsyncRead + Unpin) {
    const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
    let mut buffer = vec![0; 64 << 10];
    let to_the_end = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
    // What is over in time ends the connection in order; what is not is cut off.
    let _ = tokio::time::timeout(LINGER_TIMEOUT, to_the_end).await;
}

/// Tells a client that its header took too long: hyper ends such a connection in silence.
async fn write_fault(stream: &mut (impl AsyncWrite + Unpin), fault: &Fault) {
    let (status, body) = (fault.status(), fault.body());
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The client may be gone, or not reading: no more is owed to it.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(reply.as_bytes())).await;
}
