//! The PROXY protocol, versions 1 and 2, with which a proxy tells the server whose connection it forwards
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::SocketAddr;

use ppp::v2::{Addresses, Command, Protocol};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::client::connection_info::{ConnectionInfo, Scheme};

/// The longest line of version 1, in bytes.
const MAX_V1_HEADER_BYTES: usize = 107;
/// The longest header of version 2 that is read, in bytes: the addresses, and more than proxies usually add to them.
const MAX_V2_HEADER_BYTES: usize = 8 << 10;
/// No header of either version is shorter, so that reading this much takes nothing of what follows.
const MIN_HEADER_BYTES: usize = 15;
/// The extension that says how the client is connected to the proxy, and its flag for TLS.
const PP2_TYPE_SSL: u8 = 0x20;
const PP2_CLIENT_SSL: u8 = 0x01;

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    #[error("it is not a PROXY header: {0}")]
    Malformed(String),
    #[error("it has {0} bytes; the maximum is {max}", max = MAX_V2_HEADER_BYTES)]
    TooLong(usize),
    #[error("it ended early: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads the header, and nothing of what follows it. Returns the client's connection to the proxy, or the proxy's own
/// connection if the header names no client, as in a proxy's health checks.
///
/// # Errors
/// If the header is malformed, too long or incomplete. The caller limits the time.
pub(super) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    connection: ConnectionInfo,
) -> Result<ConnectionInfo, ProxyHeaderError> {
    let mut header = vec![0; MIN_HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    if header.starts_with(b"PROXY ") {
        read_line(stream, &mut header).await?;
        return text(&header, connection);
    }
    if !header.starts_with(v2::PROTOCOL_PREFIX) {
        return Err(ProxyHeaderError::Malformed(
            "it begins like neither version 1 nor version 2".to_owned(),
        ));
    }
    header.push(stream.read_u8().await?);
    let length =
        usize::from(u16::from_be_bytes([header[MIN_HEADER_BYTES - 1], header[MIN_HEADER_BYTES]]));
    let total = header.len() + length;
    if total > MAX_V2_HEADER_BYTES {
        return Err(ProxyHeaderError::TooLong(total));
    }
    let read = header.len();
    header.resize(total, 0);
    stream.read_exact(&mut header[read..]).await?;
    binary(&header, connection)
}

/// Reads the rest of a line, a byte at a time: a larger read could take some of what follows.
async fn read_line<S: AsyncRead + Unpin>(
    stream: &mut S,
    line: &mut Vec<u8>,
) -> Result<(), ProxyHeaderError> {
    while line.last() != Some(&b'\n') {
        if line.len() == MAX_V1_HEADER_BYTES {
            let reason = format!("its line has no end within {MAX_V1_HEADER_BYTES} bytes");
            return Err(ProxyHeaderError::Malformed(reason));
        }
        line.push(stream.read_u8().await?);
    }
    Ok(())
}

fn text(line: &[u8], connection: ConnectionInfo) -> Result<ConnectionInfo, ProxyHeaderError> {
    let malformed = ProxyHeaderError::Malformed;
    let header = v1::Header::try_from(line).map_err(|error| malformed(error.to_string()))?;
    if header.header.len() != line.len() {
        return Err(malformed("there is a carriage return in the middle of its line".to_owned()));
    }
    let (client, local): (SocketAddr, SocketAddr) = match header.addresses {
        v1::Addresses::Unknown => return Ok(connection),
        v1::Addresses::Tcp4(found) => (
            (found.source_address, found.source_port).into(),
            (found.destination_address, found.destination_port).into(),
        ),
        v1::Addresses::Tcp6(found) => (
            (found.source_address, found.source_port).into(),
            (found.destination_address, found.destination_port).into(),
        ),
    };
    Ok(ConnectionInfo { client: client.into(), local: local.into(), ..connection })
}

fn binary(header: &[u8], connection: ConnectionInfo) -> Result<ConnectionInfo, ProxyHeaderError> {
    let malformed = ProxyHeaderError::Malformed;
    let header = v2::Header::try_from(header).map_err(|error| malformed(error.to_string()))?;
    if header.command == Command::Local {
        return Ok(connection);
    }
    if header.protocol == Protocol::Datagram {
        return Err(malformed("it describes datagrams, not a connection".to_owned()));
    }
    let is_tls = header.tlvs().flatten().any(|extension| {
        extension.kind == PP2_TYPE_SSL
            && extension.value.first().is_some_and(|flags| flags & PP2_CLIENT_SSL != 0)
    });
    let scheme = if is_tls { Scheme::Https } else { connection.scheme };
    let (client, local): (SocketAddr, SocketAddr) = match header.addresses {
        Addresses::Unspecified | Addresses::Unix(_) => {
            return Ok(ConnectionInfo { scheme, ..connection });
        }
        Addresses::IPv4(found) => (
            (found.source_address, found.source_port).into(),
            (found.destination_address, found.destination_port).into(),
        ),
        Addresses::IPv6(found) => (
            (found.source_address, found.source_port).into(),
            (found.destination_address, found.destination_port).into(),
        ),
    };
    Ok(ConnectionInfo { client: client.into(), local: local.into(), scheme })
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::client::address::Address;
    use crate::client::connection_info::{ConnectionInfo, Scheme};
    use tokio::io::AsyncReadExt;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn connection() -> ConnectionInfo {
        let address = |text: &str| Address::Inet(text.parse().unwrap());
        let (client, local) = (address("10.0.0.1:1"), address("10.0.0.2:2"));
        ConnectionInfo { client, local, scheme: Scheme::Http }
    }

    /// The client, or `None` if the header is refused. Whatever follows the header must still be there.
    async fn client(header: &[u8]) -> Option<(String, Scheme)> {
        let sent = [header, b"GET"].concat();
        let mut stream = sent.as_slice();
        let read = read(&mut stream, connection()).await.ok()?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"GET", "{header:?}");
        Some((read.client.to_string(), read.scheme))
    }

    fn version_2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, content].concat()
    }

    const ADDRESSES: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 80];

    #[tokio::test]
    async fn both_versions_name_the_client() {
        let tls = [ADDRESSES.as_slice(), &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
        let long = [ADDRESSES.as_slice(), &[4, 4, 0], &[0; 1024]].concat();
        for (header, expected, scheme) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.2 12345 80\r\n".to_vec(),
                "192.0.2.1:12345",
                Scheme::Http,
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 12345 80\r\n".to_vec(),
                "[2001:db8::1]:12345",
                Scheme::Http,
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), "10.0.0.1:1", Scheme::Http),
            (b"PROXY UNKNOWN a b c\r\n".to_vec(), "10.0.0.1:1", Scheme::Http),
            (version_2(1, 0x11, &ADDRESSES), "192.0.2.1:12345", Scheme::Http),
            (version_2(1, 0x11, &tls), "192.0.2.1:12345", Scheme::Https),
            (version_2(1, 0x11, &long), "192.0.2.1:12345", Scheme::Http),
            (version_2(0, 0, &[]), "10.0.0.1:1", Scheme::Http),
            (version_2(1, 0, &[]), "10.0.0.1:1", Scheme::Http),
        ] {
            let found = client(&header).await;
            assert_eq!(found, Some((expected.to_owned(), scheme)), "{header:?}");
        }
    }

    #[tokio::test]
    async fn whatever_is_no_header_is_refused() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat();
        for header in [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
            b"PROXY TCP4 300.0.2.1 10.0.0.2 1 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.2 99999 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.2 1 80\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.2 1 80\r\r\n".to_vec(),
            b"PROXY  TCP4 192.0.2.1 10.0.0.2 1 80\r\n".to_vec(),
            b"PROXY UNKNOWN\rGET / HTTP/1.1\r\n".to_vec(),
            endless,
            version_2(2, 0x11, &ADDRESSES),
            version_2(1, 0x11, &ADDRESSES[..8]),
            version_2(1, 0x12, &ADDRESSES),
            version_2(1, 0x41, &ADDRESSES),
            [SIGNATURE, &[0x31, 0x11, 0, 12], &ADDRESSES].concat(),
            version_2(1, 0x11, &[0; 60_000]),
        ] {
            assert_eq!(client(&header).await, None, "{header:?}");
        }
        // Cut short.
        for length in 0..28 {
            let header = version_2(1, 0x11, &ADDRESSES);
            assert!(read(&mut &header[..length], connection()).await.is_err(), "{length}");
        }
    }
}
