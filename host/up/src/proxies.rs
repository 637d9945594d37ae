//! The arguments of `spotter up` that name the proxies in front of it.

use clap::Args;

use spotter_server::client::proxies::{ForwardedHeaders, Proxies, Proxy};

/// Which proxies are trusted.
#[derive(Args)]
pub(crate) struct ProxyArguments {
    /// Trust the forwarding headers of proxies at this address, in this network or behind the Unix socket (unix:); can
    /// be repeated
    #[arg(long, env = "SPOTTER_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<Proxy>,
    /// The headers in which trusted proxies name their clients
    #[arg(
        long,
        env = "SPOTTER_FORWARDED_HEADERS",
        value_enum,
        default_value_t,
        value_name = "HEADERS"
    )]
    forwarded_headers: ForwardedHeaders,
    /// Expect a PROXY protocol header, version 1 or 2, on each connection from a trusted proxy
    #[arg(long, env = "SPOTTER_PROXY_PROTOCOL", requires = "trusted_proxy")]
    proxy_protocol: bool,
}

impl ProxyArguments {
    pub(crate) fn proxies(&self) -> Proxies {
        let proxies = Proxies::new(self.trusted_proxy.clone(), self.forwarded_headers);
        if self.proxy_protocol { proxies.with_proxy_protocol() } else { proxies }
    }
}
