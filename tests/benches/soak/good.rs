//! Good clients: they send pictures at a steady rate, over each protocol, on connections that they keep.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::servers::Servers;

/// Clients of each protocol. Together they send at the rate that is asked for.
const CLIENTS: usize = 4;
/// How long a client waits for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

impl Protocol {
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http1Tls, Self::Http2, Self::Http2Tls];

    fn has_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }
}

/// What became of the good clients' requests.
#[derive(Default)]
pub struct Outcome {
    /// The milliseconds of each request that got 200, from when it was due.
    times: Vec<f64>,
    other_replies: usize,
    without_reply: usize,
}

impl Outcome {
    fn quantile(&self, share: f64) -> f64 {
        let last = self.times.len().saturating_sub(1) as f64;
        self.times.get((last * share).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.times.len() + self.other_replies + self.without_reply;
        write!(
            formatter,
            "{} | {:.2} % | {:.0} ms | {:.0} ms | {} | {}",
            self.times.len(),
            100.0 * self.times.len() as f64 / sent as f64,
            self.quantile(0.5),
            self.quantile(0.99),
            self.other_replies,
            self.without_reply
        )
    }
}

/// Sends `rate` pictures a second for a while.
pub fn send(servers: &Servers, picture: &[u8], rate: f64, duration: Duration) -> Outcome {
    let clients = CLIENTS * Protocol::ALL.len();
    let began = Instant::now();
    let mut outcome = Outcome::default();
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..clients)
            .map(|number| {
                let protocol = Protocol::ALL[number % Protocol::ALL.len()];
                scope.spawn(move || {
                    let mut client = Client::new(protocol, servers);
                    let due = (0..).map(|turn| (turn * clients + number) as f64 / rate);
                    let due = due.map(Duration::from_secs_f64);
                    send_when_due(
                        &mut client,
                        picture,
                        began,
                        due.take_while(|due| *due < duration),
                    )
                })
            })
            .collect();
        for one in started {
            let one = one.join().expect("a client");
            outcome.times.extend(one.times);
            outcome.other_replies += one.other_replies;
            outcome.without_reply += one.without_reply;
        }
    });
    outcome.times.sort_by(f64::total_cmp);
    outcome
}

fn send_when_due(
    client: &mut Client,
    picture: &[u8],
    began: Instant,
    due: impl Iterator<Item = Duration>,
) -> Outcome {
    let mut outcome = Outcome::default();
    for due in due {
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        match client.post("/detect", picture) {
            // A server that stalls also delays the requests behind.
            Ok(200) => outcome.times.push(began.elapsed().saturating_sub(due).as_secs_f64() * 1e3),
            Ok(_) => outcome.other_replies += 1,
            Err(_) => outcome.without_reply += 1,
        }
    }
    outcome
}

/// A client with a connection that it keeps, and opens again after an error.
pub struct Client {
    protocol: Protocol,
    address: String,
    agent: Agent,
    runtime: Runtime,
    connector: TlsConnector,
    connection: Option<SendRequest<Bytes>>,
}

impl Client {
    pub fn new(protocol: Protocol, servers: &Servers) -> Self {
        let address =
            if protocol.has_tls() { servers.tls.address() } else { servers.plain.address() };
        let pem = servers.certificate.as_bytes();
        let root = RootCerts::new_with_certs(&[Certificate::from_pem(pem).expect("a certificate")]);
        let tls = TlsConfig::builder().root_certs(root).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REPLY_TIMEOUT))
            .tls_config(tls)
            .build();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem).expect("a certificate")).expect("a root");
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            protocol,
            address: address.to_owned(),
            agent: agent.into(),
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
            connector: TlsConnector::from(Arc::new(config)),
            connection: None,
        }
    }

    /// Posts a picture, and reads the whole reply.
    ///
    /// # Errors
    /// If there is no complete reply.
    pub fn post(&mut self, path: &str, picture: &[u8]) -> anyhow::Result<u16> {
        match self.protocol {
            Protocol::Http1 | Protocol::Http1Tls => self.post_http1(path, picture),
            Protocol::Http2 | Protocol::Http2Tls => {
                let reply = self.post_http2(path, Bytes::copy_from_slice(picture));
                if reply.is_err() {
                    self.connection = None;
                }
                reply
            }
        }
    }

    fn post_http1(&self, path: &str, picture: &[u8]) -> anyhow::Result<u16> {
        let scheme = if self.protocol.has_tls() { "https" } else { "http" };
        let port = self.address.rsplit(':').next().expect("a port");
        let request = self.agent.post(format!("{scheme}://localhost:{port}{path}"));
        let mut reply = request.content_type("application/octet-stream").send(picture)?;
        reply.body_mut().read_to_vec()?;
        Ok(reply.status().as_u16())
    }

    fn post_http2(&mut self, path: &str, picture: Bytes) -> anyhow::Result<u16> {
        let request = http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/octet-stream")
            .body(())?;
        let Self { runtime, connection, connector, address, protocol, .. } = self;
        let reply = async {
            if connection.is_none() {
                let stream = TcpStream::connect(address.as_str()).await?;
                *connection = Some(if protocol.has_tls() {
                    handshake(connector.connect(ServerName::try_from("localhost")?, stream).await?)
                        .await?
                } else {
                    handshake(stream).await?
                });
            }
            let ready = connection.clone().expect("a connection").ready().await?;
            exchange(ready, request, picture).await
        };
        runtime.block_on(async { tokio::time::timeout(REPLY_TIMEOUT, reply).await })?
    }
}

/// Begins HTTP/2 on a stream. The connection's errors show in its requests.
async fn handshake<S>(stream: S) -> Result<SendRequest<Bytes>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(requests)
}

async fn exchange(
    mut requests: SendRequest<Bytes>,
    request: http::Request<()>,
    picture: Bytes,
) -> anyhow::Result<u16> {
    let (reply, mut body) = requests.send_request(request, false)?;
    body.send_data(picture, true)?;
    let reply = reply.await?;
    let (status, mut body) = (reply.status(), reply.into_body());
    while let Some(piece) = body.data().await {
        let length = piece?.len();
        body.flow_control().release_capacity(length)?;
    }
    Ok(status.as_u16())
}
