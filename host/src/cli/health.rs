//! `spotter health`: asks a server whether it is ready, for container runtimes that probe with a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, ensure};
use clap::Args;

use spotter_config::units::HumanDuration;
use spotter_progress::print;
use spotter_up::block_on;

/// Ask a server on this machine, through its admin listener, whether it is ready
#[derive(Args)]
pub(super) struct Health {
    /// The address that was given to `spotter up --admin`
    #[arg(long, env = "SPOTTER_ADMIN", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// How long to wait for the answer
    #[arg(long, default_value = "2s", value_name = "TIME")]
    timeout: HumanDuration,
}

impl Health {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let address = reachable(self.admin);
        // An image without a Linux system has no certificates, and plain HTTP needs none.
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy();
        let client = client.timeout(self.timeout.0).build();
        let client = client.context("cannot start the HTTP client")?;
        block_on(async {
            let asked = client.get(format!("http://{address}/readyz")).send().await;
            let status = asked
                .with_context(|| format!(
                        "the admin listener on {address} does not answer; check that `spotter up` runs with --admin {address}"
                    ))?
                .status();
            ensure!(status.is_success(), "the server is not ready: /readyz replied {status}");
            print("ready");
            Ok(())
        })
    }
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
