//! `spotter up`: serves an application.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;

use super::AppArguments;
use crate::app::App;
use crate::runtime::Limits;
use crate::server::{Server, listener};

/// Serve an application over HTTP
#[derive(Args)]
pub(super) struct Up {
    #[command(flatten)]
    app: AppArguments,
    /// Build the application first
    #[arg(long, short)]
    build: bool,
    /// The address to listen on; port 0 takes any free one
    #[arg(
        long,
        default_value = "127.0.0.1:3000",
        env = "SPIN_HTTP_LISTEN_ADDR",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
}

impl Up {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let app = self.app.load()?;
        if self.build {
            crate::build::build(&app)?;
        }
        let server = Server::new(app, Limits::default())?;
        // Guests keep as many threads busy as there are instances; two more keep the sockets going.
        let threads = server.limits().instances + 2;
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .context("cannot start the server's threads")?
            .block_on(async {
                let socket = listener::bind(self.listen).await?;
                announce(server.app(), socket.local_addr()?);
                listener::serve(server, socket).await
            })
    }
}

/// Says where the application is, as `spin up` does.
#[allow(clippy::print_stdout, reason = "the address is what was asked for")]
fn announce(app: &App, address: SocketAddr) {
    println!("Serving http://{address}");
    println!("Available Routes:");
    for (pattern, component) in app.routes.entries() {
        let wildcard = if pattern.is_wildcard() { " (wildcard)" } else { "" };
        println!("  {component}: http://{address}{}{wildcard}", pattern.base());
    }
}
