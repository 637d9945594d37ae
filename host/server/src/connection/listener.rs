//! Accepts connections, and shuts down gracefully.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::socket::Socket;
use super::tls::Certificate;
use super::{ListenerConfig, drain, dual_stack, open_files};
use crate::Server;
use crate::client::proxies::Proxies;
use crate::signals::{SignalAction, Signals};

/// Binds an address that a flag gives. Port 0 selects any free port.
///
/// # Errors
/// If the address is in use, or does not belong to this machine.
pub async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    dual_stack::bind(address).await.with_context(|| cannot_listen(flag, address))
}

fn cannot_listen(flag: &str, address: SocketAddr) -> String {
    format!(
        "cannot listen on {address}; choose another address with {flag} (port 0 selects any free port)"
    )
}

/// How many ports [`bind_free`] tries.
const MAX_PORTS_TRIED: u16 = 10;

/// Binds an address. If its port is in use, binds one of the next.
///
/// # Errors
/// If all of them are in use, or the address does not belong to this machine.
pub async fn bind_free(first: SocketAddr) -> anyhow::Result<TcpListener> {
    for port in (first.port()..=u16::MAX).take(MAX_PORTS_TRIED.into()) {
        let address = SocketAddr::new(first.ip(), port);
        match dual_stack::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound.with_context(|| cannot_listen("--listen", address)),
        }
    }
    bail!("{first} and the next ports are in use; choose another address with --listen")
}

/// The socket of the public listener.
pub struct Listener {
    pub socket: Socket,
    /// `None` for plain HTTP.
    pub certificate: Option<Arc<Certificate>>,
    pub proxies: Arc<Proxies>,
}

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeOutcome {
    /// It was asked to.
    Stopped,
    /// Too many guests without checks exceeded their limit on CPU time, and still run.
    Exhausted,
}

/// Serves until the first signal to stop, or until the server is [exhausted](Server::exhausted). Then it accepts no
/// more connections, waits up to the grace period for requests in flight, and returns. A further signal makes it return
/// immediately.
pub fn serve(
    server: Arc<Server>,
    listener: Listener,
    signals: Signals,
) -> BoxFuture<'static, ServeOutcome> {
    // Boxed: the code of an `async fn` is compiled with the crate that awaits it, at that crate's level of optimisation,
    // and so is all code that it awaits.
    Box::pin(accept_connections(server, listener, signals))
}

async fn accept_connections(
    server: Arc<Server>,
    listener: Listener,
    mut signals: Signals,
) -> ServeOutcome {
    let (stop, stopping) = watch::channel(false);
    let tasks = TaskTracker::new();
    let limits = server.limits();
    let connections = open_files::max_connections(limits, server.app());
    let permits = Arc::new(Semaphore::new(connections));
    let Listener { socket, certificate, proxies } = listener;
    if let Some(certificate) = &certificate {
        tokio::spawn(Arc::clone(certificate).follow());
    }
    let spawn_connection = |permit, (stream, connection)| {
        let config = ListenerConfig {
            tls: certificate.as_ref().map(|certificate| certificate.acceptor()),
            proxies: Arc::clone(&proxies),
        };
        let (server, stopping) = (Arc::clone(&server), stopping.clone());
        tasks.spawn(async move {
            super::serve(server, stream, connection, config, stopping).await;
            drop::<OwnedSemaphorePermit>(permit);
        });
    };
    let end = loop {
        // Until a permit is free, connections wait in the kernel's backlog.
        let permit = Arc::clone(&permits).acquire_owned();
        let accepted = async { (permit.await, socket.accept().await) };
        tokio::select! {
            (Ok(permit), accepted) = accepted => match accepted {
                Ok(accepted) => spawn_connection(permit, accepted),
                Err(error) => {
                    // Probably out of file descriptors: an immediate retry would fail too.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            demand = signals.next() => match demand {
                SignalAction::Stop => break ServeOutcome::Stopped,
                SignalAction::Reload => match &certificate {
                    Some(certificate) => certificate.reload_and_say(),
                    None => tracing::info!("SIGHUP is ignored: there is no certificate to reload"),
                },
            },
            () = server.exhausted() => break ServeOutcome::Exhausted,
        }
    };
    server.begin_shutdown();
    // Serve the connections in the kernel's backlog too: closing the socket would reset them.
    for accepted in socket.into_pending() {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { break };
        if let Ok(accepted) = accepted {
            spawn_connection(permit, accepted);
        }
    }
    stop.send_replace(true);
    drain::finish_requests(server, &tasks, &mut signals).await;
    end
}
