//! Asks a server whether it is ready, through its admin listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::redirect::Policy;
use spotter_server::connection::tls::choose_cryptography;

/// Asks the server on this machine whose admin listener has this address.
///
/// # Errors
/// If the server is not ready, or does not answer in time.
pub async fn ensure_ready(admin: SocketAddr, timeout: Duration) -> anyhow::Result<()> {
    let address = reachable(admin);
    // The client wants it, even for plain HTTP.
    choose_cryptography();
    // An image without a Linux system has no certificates, and plain HTTP needs none.
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(timeout);
    // In a pod, another container may have taken the port.
    let client = client.redirect(Policy::none()).build().context("cannot start the HTTP client")?;
    let asked = client.get(format!("http://{address}/readyz")).send().await;
    let status = asked
        .with_context(|| {
            format!("no answer from the admin listener, which `--admin` sets to {admin}")
        })?
        .status();
    ensure!(status.is_success(), "the server is not ready: /readyz replied {status}");
    Ok(())
}

/// Where a server on this machine that listens on `address` is reached.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        // `[::]` takes IPv4 too, and every machine has that address.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::{ensure_ready, reachable};
    use crate::block_on;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_the_loopback_address() {
        for (listener, expected) in [
            ("[::]:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(reachable(listener.parse().unwrap()), expected.parse().unwrap());
        }
    }

    #[test]
    fn a_redirect_is_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            let reply = format!(
                "HTTP/1.1 302 Found\r\nlocation: http://{address}/\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(reply.as_bytes()).unwrap();
        });
        let asked = block_on(ensure_ready(address, Duration::from_secs(5)));
        assert_eq!(
            asked.unwrap_err().to_string(),
            "the server is not ready: /readyz replied 302 Found"
        );
        answer.join().unwrap();
    }
}
