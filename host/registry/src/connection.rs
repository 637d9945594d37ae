//! Connections to a registry: over HTTPS, unless it is on this machine or the user wants them insecure.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;

/// How long a registry may take for a reply that is read whole, and how long it may pause in one that is streamed.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a registry may take to accept a connection that may be insecure, before the other protocol is tried.
const INSECURE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a registry may take to accept a connection for uploads.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a registry may take for one request of an upload, which has 4 MiB at most if the registry takes chunks.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// How connections to a registry are secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Over HTTPS, with a certificate of a known authority. Over plain HTTP only to registries on this machine.
    #[default]
    Secure,
    /// Over HTTPS with any certificate, or over plain HTTP if no connection over HTTPS can be made, as Docker treats
    /// insecure registries (<https://docs.docker.com/reference/cli/dockerd/#insecure-registries>).
    Insecure,
}

/// How to reach one registry.
pub(super) struct Connection {
    pub(super) http: reqwest::Client,
    /// The scheme of its URLs.
    pub(super) scheme: &'static str,
    transport: Transport,
}

impl Connection {
    /// Prepares connections to a registry. An insecure one is asked which protocol it speaks.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub(super) async fn new(registry: &str, transport: Transport) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().read_timeout(REPLY_TIMEOUT);
        let http = match transport {
            Transport::Secure => http,
            Transport::Insecure => {
                http.tls_danger_accept_invalid_certs(true).connect_timeout(INSECURE_CONNECT_TIMEOUT)
            }
        };
        let http = http.build().context("cannot start the HTTP client")?;
        let scheme = match transport {
            Transport::Secure if is_loopback(registry) => "http",
            Transport::Secure => "https",
            Transport::Insecure => {
                let ping = http.get(format!("https://{registry}/v2/")).timeout(REPLY_TIMEOUT);
                let is_https = !ping.send().await.is_err_and(|error| is_connect(registry, &error));
                if is_https { "https" } else { "http" }
            }
        };
        Ok(Self { http, scheme, transport })
    }

    /// A client for uploads.
    pub(super) fn client(&self) -> Client {
        let protocol =
            if self.scheme == "http" { ClientProtocol::Http } else { ClientProtocol::Https };
        Client::new(ClientConfig {
            protocol,
            accept_invalid_certificates: self.transport == Transport::Insecure,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(UPLOAD_TIMEOUT),
            ..ClientConfig::default()
        })
    }

    /// Advice for a request to this registry that failed; `None` if the registry replied with an error.
    pub(super) fn hint(&self, registry: &str, error: &OciDistributionError) -> Option<String> {
        let OciDistributionError::RequestError(error) = error else { return None };
        if !error.is_connect() {
            return Some(format!("the request to {registry} failed; try again"));
        }
        Some(match self.transport {
            Transport::Insecure if self.scheme == "http" => format!(
                "cannot connect to {registry}, neither over HTTPS nor over plain HTTP; is its name right, and is it \
                 running?"
            ),
            Transport::Insecure => format!("cannot connect to a server that {registry} names"),
            Transport::Secure if self.scheme == "http" => {
                format!("cannot connect to {registry}; is it running?")
            }
            Transport::Secure => format!(
                "cannot connect to {registry} over HTTPS; is its name right, and does it speak HTTPS with a certificate \
                 that this machine trusts? With --insecure (-k), Spotter accepts any certificate, and uses plain HTTP \
                 if no connection over HTTPS can be made"
            ),
        })
    }
}

/// Whether no connection to this registry could be made. A redirect may have led to another server.
fn is_connect(registry: &str, error: &reqwest::Error) -> bool {
    let is_registry =
        |url: &reqwest::Url| url.as_str().starts_with(&format!("https://{registry}/"));
    error.is_connect() && error.url().is_none_or(is_registry)
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["ghcr.io", "localhost.example.com", "10.0.0.1:5000", "127.0.0.1.nip.io"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
