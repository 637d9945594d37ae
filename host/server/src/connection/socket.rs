//! The public listener's socket: on a TCP port, in the file system, or inherited from a service manager.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, ensure};
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::unix_socket::{self, SocketFile};
use crate::client::address::Address;
use crate::client::connection_info::{ConnectionInfo, Scheme};

/// What `--listen` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `ADDRESS:PORT`.
    Inet(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `fd://`: the socket that systemd passes
    /// (<https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>).
    Inherited,
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "fd://" {
            return Ok(Self::Inherited);
        }
        match text.strip_prefix("unix:") {
            Some("") => Err("the path after unix: is missing"),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Inet).map_err(
                |_| "write IP:PORT, such as 127.0.0.1:3000 or [::]:3000, unix:PATH or fd://",
            ),
        }
    }
}

impl Display for ListenAddress {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Inherited => formatter.write_str("fd://"),
        }
    }
}

/// A listening socket.
pub enum Socket {
    Tcp(TcpListener),
    /// With its file, if the socket is ours.
    Unix(UnixListener, Option<SocketFile>),
}

/// An accepted connection.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// A socket that the service manager passed to this process.
pub enum Inherited {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Inherited {
    /// Takes the socket out of this process's environment. Call it before there are other threads, which might read
    /// the environment.
    ///
    /// # Errors
    /// If there is not exactly one, or it is neither a TCP nor a Unix stream socket.
    pub fn take() -> anyhow::Result<Self> {
        let mut passed = ListenFd::from_env();
        ensure!(
            passed.len() == 1,
            "--listen fd:// takes one socket from the service manager, which passed {}; start this command from a \
             systemd socket unit with one Listen line, or choose an address with --listen",
            passed.len()
        );
        if let Ok(Some(socket)) = passed.take_tcp_listener(0) {
            return Ok(Self::Tcp(socket));
        }
        let socket = passed.take_unix_listener(0);
        let socket = socket.context("the socket of --listen fd:// is not a stream socket")?;
        Ok(Self::Unix(socket.context("the socket of --listen fd:// is gone")?))
    }
}

impl Socket {
    /// Binds a path.
    ///
    /// # Errors
    /// If another server listens there, the file is not a socket, or the path cannot be bound.
    pub async fn at(path: &Path) -> anyhow::Result<Self> {
        let (socket, file) = unix_socket::bind(path).await?;
        Ok(Self::Unix(socket, Some(file)))
    }

    /// Listens on a socket of the service manager's.
    ///
    /// # Errors
    /// If the socket does not listen.
    pub fn from_inherited(inherited: Inherited) -> anyhow::Result<Self> {
        let failed = "cannot listen on the socket of --listen fd://";
        Ok(match inherited {
            Inherited::Tcp(socket) => {
                socket.set_nonblocking(true).context(failed)?;
                Self::Tcp(TcpListener::from_std(socket).context(failed)?)
            }
            Inherited::Unix(socket) => {
                socket.set_nonblocking(true).context(failed)?;
                Self::Unix(UnixListener::from_std(socket).context(failed)?, None)
            }
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<ListenAddress> {
        Ok(match self {
            Self::Tcp(socket) => ListenAddress::Inet(socket.local_addr()?),
            Self::Unix(socket, _) => {
                let address = socket.local_addr()?;
                // A socket without a path has a name that only Linux knows.
                let path = address.as_pathname().unwrap_or("(unnamed)".as_ref());
                ListenAddress::Unix(path.to_owned())
            }
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, ConnectionInfo)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, client) = socket.accept().await?;
                tcp(stream, client)
            }
            Self::Unix(socket, _) => Ok(unix(socket.accept().await?.0)),
        }
    }

    /// The connections in the kernel's backlog. Waits for no further ones; dropping the iterator closes the socket,
    /// and removes its file.
    pub(super) fn into_pending(self) -> impl Iterator<Item = io::Result<(Stream, ConnectionInfo)>> {
        let (tcp_socket, unix_socket, file) = match self {
            Self::Tcp(socket) => (socket.into_std().ok(), None, None),
            Self::Unix(socket, file) => (None, socket.into_std().ok(), file),
        };
        std::iter::from_fn(move || {
            let _removed_at_the_end = &file;
            if let Some(socket) = &tcp_socket {
                let (stream, client) = socket.accept().ok()?;
                let stream =
                    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                return Some(stream.and_then(|stream| tcp(stream, client)));
            }
            let (stream, _) = unix_socket.as_ref()?.accept().ok()?;
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            Some(stream.map(unix))
        })
    }
}

fn tcp(stream: TcpStream, client: SocketAddr) -> io::Result<(Stream, ConnectionInfo)> {
    // Replies are written in one go, so Nagle's algorithm would only delay them.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?.into();
    let connection = ConnectionInfo { client: client.into(), local, scheme: Scheme::Http };
    Ok((Either::Left(stream), connection))
}

fn unix(stream: UnixStream) -> (Stream, ConnectionInfo) {
    let connection =
        ConnectionInfo { client: Address::Unix, local: Address::Unix, scheme: Scheme::Http };
    (Either::Right(stream), connection)
}

/// Waits until the client has sent something, or is gone.
pub(crate) async fn begun(stream: &Stream) -> io::Result<()> {
    match stream {
        Either::Left(stream) => stream.peek(&mut [0]).await.map(drop),
        Either::Right(stream) => stream.readable().await,
    }
}

#[cfg(test)]
mod tests {
    use super::ListenAddress;

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["127.0.0.1:3000", "[::]:80", "unix:/run/spotter.sock", "unix:a b", "fd://"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "localhost", "127.0.0.1", "/run/spotter.sock", "fd://3"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
