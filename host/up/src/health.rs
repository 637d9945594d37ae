//! Asks a server whether it is ready, through its admin listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use spotter_server::tls::choose_cryptography;

/// Asks the server on this machine whose admin listener has this address.
///
/// # Errors
/// If the server is not ready, or does not answer in time.
pub async fn ensure_ready(admin: SocketAddr, timeout: Duration) -> anyhow::Result<()> {
    let address = reachable(admin);
    // The client wants it, even for plain HTTP.
    choose_cryptography();
    // An image without a Linux system has no certificates, and plain HTTP needs none.
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(timeout).build();
    let client = client.context("cannot start the HTTP client")?;
    let asked = client.get(format!("http://{address}/readyz")).send().await;
    let status = asked
        .with_context(|| {
            format!(
                "the admin listener on {address} does not answer; check that `spotter up` runs with --admin {address}"
            )
        })?
        .status();
    ensure!(status.is_success(), "the server is not ready: /readyz replied {status}");
    Ok(())
}

/// Where a server on this machine that listens on `address` is reached.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        // It takes IPv4 too, which every machine has.
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
