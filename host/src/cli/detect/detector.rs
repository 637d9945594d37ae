//! Where `spotter detect` sends its pictures: the application in this process, or a running server.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::inputs::Content;
use spotter_app::App;
use spotter_config::Limits;
use spotter_server::Server;
use spotter_server::client::connection_info::{ConnectionInfo, Scheme};

/// The largest picture that is read from a URL, in bytes.
const MAX_DOWNLOAD_BYTES: usize = 64 << 20;

/// The statuses that are due to the server's load, not to the picture.
const RETRYABLE_STATUSES: [StatusCode; 4] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// Detects objects in pictures.
pub(in crate::cli) enum Detector {
    /// In this process, without a socket.
    Local(Arc<Server>),
    /// Through a server's `POST /detect`.
    Remote { client: reqwest::Client, url: reqwest::Url },
}

/// Why there is no result for a picture.
#[derive(Debug)]
pub(in crate::cli) struct DetectError {
    /// The API's error code, if the picture reached the API.
    pub(in crate::cli) code: Option<String>,
    pub(in crate::cli) message: String,
    /// Whether the picture may succeed another time.
    pub(in crate::cli) retry: bool,
}

impl From<anyhow::Error> for DetectError {
    fn from(error: anyhow::Error) -> Self {
        Self { code: None, message: format!("{error:#}"), retry: true }
    }
}

impl Detector {
    /// A detector in this process, for this number of pictures at once.
    ///
    /// # Errors
    /// If the application cannot be loaded.
    pub(in crate::cli) fn local(app: App, at_once: usize) -> anyhow::Result<Self> {
        let limits = Limits::default();
        let (instances, max_instances) =
            (at_once.max(limits.instances), at_once.max(limits.max_instances));
        let limits = Limits { instances, max_instances, ..limits };
        let server =
            Server::new(app, limits, None, Vec::new()).context("cannot load the application")?;
        Ok(Self::Local(server))
    }

    /// A detector behind the server at `url`.
    ///
    /// # Errors
    /// If the URL is not one of HTTP.
    pub(super) fn remote(client: reqwest::Client, url: &str) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(url)
            .with_context(|| format!("--server {url:?} is not a URL, such as http://host:3000"))?;
        ensure!(
            matches!(url.scheme(), "http" | "https"),
            "--server {url} is not an HTTP URL, such as http://host:3000"
        );
        Ok(Self::Remote { client, url })
    }

    /// Posts a picture to `/detect`, and returns the reply in the accepted type.
    pub(in crate::cli) async fn detect(
        &self,
        picture: Bytes,
        query: &str,
        accept: &str,
    ) -> Result<Bytes, DetectError> {
        let (status, body) = match self {
            Self::Local(server) => local(server, picture, query, accept).await?,
            Self::Remote { client, url } => remote(client, url, picture, query, accept).await?,
        };
        if status.is_success() {
            return Ok(body);
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |key: &str| error["error"][key].as_str().map(str::to_owned);
        let message = text("message").unwrap_or_else(|| format!("the detector replied {status}"));
        let retry = RETRYABLE_STATUSES.contains(&status);
        Err(DetectError { code: text("code"), message, retry })
    }
}

async fn local(
    server: &Arc<Server>,
    picture: Bytes,
    query: &str,
    accept: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let here = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let request = Request::post(format!("/detect?{query}"))
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT, accept)
        .body(Full::new(picture).map_err(|never| match never {}).boxed_unsync())?;
    let connection = ConnectionInfo { client: here, local: here, scheme: Scheme::Http };
    let response = server.handle(request, connection).await;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| anyhow!("{error:?}"))?;
    Ok((status, body.to_bytes()))
}

async fn remote(
    client: &reqwest::Client,
    server: &reqwest::Url,
    picture: Bytes,
    query: &str,
    accept: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let mut url = server.clone();
    url.set_path(&format!("{}/detect", server.path().trim_end_matches('/')));
    url.set_query(Some(query));
    let request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT, accept)
        .body(picture);
    let response = request.send().await.with_context(|| format!("cannot reach {server}"))?;
    let status = response.status();
    Ok((status, response.bytes().await.context("the reply ended early")?))
}

/// The bytes of a picture.
///
/// # Errors
/// If they cannot be read.
pub(super) async fn read(content: Content, client: &reqwest::Client) -> anyhow::Result<Bytes> {
    match content {
        Content::Bytes(bytes) => Ok(bytes.into()),
        Content::File(path) => {
            Ok(tokio::fs::read(&path).await.context("cannot read the file")?.into())
        }
        Content::Url(url) => download(client, &url).await,
        Content::Unreadable(error) => Err(error),
    }
}

async fn download(client: &reqwest::Client, url: &str) -> anyhow::Result<Bytes> {
    let response = client.get(url).send().await.context("cannot download it")?;
    ensure!(response.status().is_success(), "the server replied {}", response.status());
    let mut bytes = Vec::new();
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.context("the download ended early")?);
        ensure!(bytes.len() <= MAX_DOWNLOAD_BYTES, "it has more than {MAX_DOWNLOAD_BYTES} bytes");
    }
    Ok(bytes.into())
}
