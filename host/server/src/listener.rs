//! Accepts connections, and shuts down gracefully.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::tls::Certificate;
use super::{Connection, Scheme, Server, connection, descriptors};

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

/// How many ports [`bind_free`] tries.
const MAX_PORTS: u16 = 10;

/// Binds an address. If its port is in use, binds one of the next.
///
/// # Errors
/// If all of them are in use, or the address does not belong to this machine.
pub async fn bind_free(first: SocketAddr) -> anyhow::Result<TcpListener> {
    for port in (first.port()..=u16::MAX).take(MAX_PORTS.into()) {
        let address = SocketAddr::new(first.ip(), port);
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound.with_context(|| format!("cannot listen on {address}")),
        }
    }
    bail!("{first} and the next ports are in use; choose another address with --listen")
}

/// The signals that the server handles.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
pub enum Demand {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP: to read the certificate again.
    Reload,
}

impl Signals {
    /// Installs handlers, so that these signals no longer terminate the process.
    ///
    /// # Errors
    /// If the system refuses to install a handler.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot receive SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot receive SIGINT")?,
            hangup: signal(SignalKind::hangup()).context("cannot receive SIGHUP")?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Demand {
        tokio::select! {
            _ = self.terminate.recv() => Demand::Stop,
            _ = self.interrupt.recv() => Demand::Stop,
            _ = self.hangup.recv() => Demand::Reload,
        }
    }

    /// Waits for the next signal to stop.
    pub async fn stop(&mut self) {
        while let Demand::Reload = self.next().await {}
    }
}

/// The socket of the public listener.
pub struct Listener {
    pub socket: TcpListener,
    /// `None` for plain HTTP.
    pub certificate: Option<Certificate>,
}

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// Too many guests without checks exceeded their limit on processor time, and still run.
    Exhausted,
}

/// Serves until the first signal to stop, or until the server is [exhausted](Server::exhausted). Then it accepts no
/// more connections, waits up to the grace period for requests in flight, and returns. A further signal makes it return
/// immediately.
pub async fn serve(server: Arc<Server>, listener: Listener, mut signals: Signals) -> End {
    let (stop, stopping) = watch::channel(false);
    let tasks = TaskTracker::new();
    let limits = server.limits();
    let connections = descriptors::connections(limits.connections, limits.instances);
    let permits = Arc::new(Semaphore::new(connections));
    let Listener { socket, mut certificate } = listener;
    let spawn_connection = |permit, accepted, certificate: Option<&Certificate>| {
        let tls = certificate.map(Certificate::acceptor).cloned();
        let (server, stopping) = (Arc::clone(&server), stopping.clone());
        let (stream, addresses) = accepted;
        tasks.spawn(async move {
            connection::serve(server, stream, tls, addresses, stopping).await;
            drop::<OwnedSemaphorePermit>(permit);
        });
    };
    let end = loop {
        // Until a permit is free, connections wait in the kernel's backlog.
        let permit = Arc::clone(&permits).acquire_owned();
        let accepted = async { (permit.await, socket.accept().await) };
        tokio::select! {
            (Ok(permit), accepted) = accepted => match prepare(accepted) {
                Ok(accepted) => spawn_connection(permit, accepted, certificate.as_ref()),
                Err(error) => {
                    // Probably out of file descriptors: an immediate retry would fail too.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            demand = signals.next() => match demand {
                Demand::Stop => break End::Stopped,
                Demand::Reload => reload(certificate.as_mut()),
            },
            () = server.exhausted() => break End::Exhausted,
        }
    };
    server.begin_shutdown();
    // Serve the connections in the kernel's backlog too: closing the socket would reset them.
    for accepted in pending_connections(socket) {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { break };
        if let Ok(accepted) = prepare(accepted) {
            spawn_connection(permit, accepted, certificate.as_ref());
        }
    }
    stop.send_replace(true);
    drain(server, &tasks, &mut signals).await;
    end
}

/// Reads the certificate again, if there is one.
fn reload(certificate: Option<&mut Certificate>) {
    match certificate.map(Certificate::reload) {
        None => tracing::info!("SIGHUP is ignored: there is no certificate to read again"),
        Some(Ok(())) => tracing::info!("the certificate was read again, for new connections"),
        Some(Err(error)) => {
            let error = format!("{error:#}");
            tracing::error!(error, "the previous certificate stays in use");
        }
    }
}

/// Waits until all connections and guests have finished, the grace period is over, or a signal arrives.
async fn drain(server: Arc<Server>, tasks: &TaskTracker, signals: &mut Signals) {
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
        () = signals.stop() => tracing::warn!("stopped immediately: a second signal arrived"),
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
