//! Components' connections to servers that do not speak HTTP: opened only if the manifest allows the host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wasmtime_wasi::sockets::SocketAddrUse;

use spotter_app::allowed_hosts::{AllowedHosts, Permission, is_public};

/// How long a component waits for a server to accept a connection, or for a name to be resolved.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The manifest does not allow the host.
    Denied,
    /// The instance has as many as it may have.
    TooMany,
    Failed(String),
}

/// A connection, which counts as long as it is open.
pub(crate) struct Connected {
    pub(crate) stream: TcpStream,
    pub(crate) permits: [OwnedSemaphorePermit; 2],
}

/// Opens the connections of one instance.
#[derive(Clone)]
pub struct OutboundTcp {
    pub allowed: Arc<AllowedHosts>,
    pub component: String,
    /// Permits for outgoing connections, shared by all guests.
    pub connections: Arc<Semaphore>,
    /// The connections that this instance may still open.
    pub own_connections: Arc<Semaphore>,
}

impl OutboundTcp {
    /// Connects to a server whose URLs have this scheme.
    pub(crate) async fn connect(
        &self,
        scheme: &str,
        host: &str,
        port: u16,
    ) -> Result<Connected, ConnectError> {
        let Some(permission) = self.allowed.permit(scheme, host, port) else {
            tracing::warn!(
                component = self.component,
                "a connection to {scheme}://{host}:{port} was denied: add it to `allowed_outbound_hosts`"
            );
            return Err(ConnectError::Denied);
        };
        let own = Arc::clone(&self.own_connections).try_acquire_owned();
        let own = own.map_err(|_| ConnectError::TooMany)?;
        let shared = timeout(CONNECT_TIMEOUT, Arc::clone(&self.connections).acquire_owned()).await;
        let Ok(Ok(shared)) = shared else { return Err(ConnectError::TooMany) };
        let connecting = connect(host, port, permission);
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => Ok(Connected { stream, permits: [own, shared] }),
            Ok(Err(reason)) => Err(ConnectError::Failed(format!("{host}:{port}: {reason}"))),
            Err(_) => Err(ConnectError::Failed(format!(
                "{host}:{port} did not accept the connection within {CONNECT_TIMEOUT:?}"
            ))),
        }
    }
}

async fn connect(host: &str, port: u16, permission: Permission) -> Result<TcpStream, String> {
    let found = lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    let addresses: Vec<SocketAddr> = found.collect();
    let is_private = |address: &SocketAddr| !is_public(address.ip());
    if permission == Permission::ByWildcard && addresses.iter().any(is_private) {
        return Err(
            "it has a private address, which a wildcard in `allowed_outbound_hosts` does not \
                    include; name the host"
                .to_owned(),
        );
    }
    TcpStream::connect(&addresses[..]).await.map_err(|error| error.to_string())
}

/// Whether a component may use a socket of `wasi:sockets` in this way. It may connect to addresses that the manifest
/// allows with the scheme `tcp` or `*`, and to those of names that it allows.
pub async fn permits_socket(
    allowed: &AllowedHosts,
    address: SocketAddr,
    usage: SocketAddrUse,
) -> bool {
    match usage {
        SocketAddrUse::TcpConnect => {}
        // To connect, the system binds a socket to any address.
        SocketAddrUse::TcpBind => return address.ip().is_unspecified() && address.port() == 0,
        _ => return false,
    }
    let ip = address.ip().to_canonical();
    match allowed.permit(TCP_SCHEME, &ip.to_string(), address.port()) {
        Some(Permission::ByName) => return true,
        Some(Permission::ByWildcard) if is_public(ip) => return true,
        _ => {}
    }
    for name in allowed.names(TCP_SCHEME, address.port()) {
        let found = timeout(CONNECT_TIMEOUT, lookup_host((name, address.port()))).await;
        if let Ok(Ok(mut addresses)) = found
            && addresses.any(|found| found.ip().to_canonical() == ip)
        {
            return true;
        }
    }
    false
}

/// The scheme of sockets in `allowed_outbound_hosts`.
pub const TCP_SCHEME: &str = "tcp";
