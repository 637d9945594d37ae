//! Requests to a registry: with a token, if it wants one
//! (<https://distribution.github.io/distribution/spec/auth/token/>), and with limits on the size of replies, because
//! oci-client reads replies whole, however long they are.

mod uploads;

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use http::header::{ACCEPT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::connection::{Connection, REPLY_TIMEOUT, Transport};
use super::credentials;

/// The largest reply with a token that is read, in bytes.
const MAX_TOKEN_BYTES: usize = 1 << 20;

/// The age at which a token is renewed: the specification requires tokens to last for at least a minute.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30);

/// A session with a registry, and what it allows us to do with one image.
pub(super) struct Session<'a> {
    reference: &'a Reference,
    connection: Connection,
    /// The user's.
    auth: RegistryAuth,
    /// The actions that a token is requested for.
    actions: &'static str,
    granted: Mutex<Option<(Instant, RegistryAuth)>>,
}

impl<'a> Session<'a> {
    /// To pull an image.
    ///
    /// # Errors
    /// If the user's credentials cannot be read, or the HTTP client cannot be created.
    pub(super) async fn to_pull(
        reference: &'a Reference,
        transport: Transport,
    ) -> anyhow::Result<Self> {
        let auth = credentials::find(reference.resolve_registry())?;
        Self::new(reference, transport, auth, "pull").await
    }

    /// To push an image.
    ///
    /// # Errors
    /// As [`Session::to_pull`].
    pub(super) async fn to_push(
        reference: &'a Reference,
        transport: Transport,
    ) -> anyhow::Result<Self> {
        let auth = credentials::find(reference.resolve_registry())?;
        Self::new(reference, transport, auth, "pull,push").await
    }

    /// To check whether the registry accepts these credentials.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub(super) async fn to_log_in(
        reference: &'a Reference,
        transport: Transport,
        auth: RegistryAuth,
    ) -> anyhow::Result<Self> {
        Self::new(reference, transport, auth, "pull").await
    }

    async fn new(
        reference: &'a Reference,
        transport: Transport,
        auth: RegistryAuth,
        actions: &'static str,
    ) -> anyhow::Result<Self> {
        let connection = Connection::new(reference.resolve_registry(), transport).await?;
        Ok(Self { reference, connection, auth, actions, granted: Mutex::default() })
    }

    /// Requests a part of the image, such as `manifests/latest`.
    ///
    /// # Errors
    /// If the registry cannot be reached, does not have it, or refuses it.
    pub(super) async fn get(&self, path: &str, accept: &str) -> anyhow::Result<Response> {
        let response = self.request(path, accept).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(self.refusal(self.part(path), status)),
        }
    }

    /// The same; `None` if the registry does not have it.
    ///
    /// # Errors
    /// If the registry cannot be reached, or refuses it.
    pub(super) async fn find(&self, path: &str, accept: &str) -> anyhow::Result<Option<Response>> {
        let response = self.request(path, accept).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(self.refusal(self.part(path), status)),
        }
    }

    async fn request(&self, path: &str, accept: &str) -> anyhow::Result<Response> {
        let auth = self.auth().await?;
        let request = self.connection.http.get(self.part(path)).header(ACCEPT, accept);
        self.send(with_credentials(request, &auth)).await
    }

    /// The error of a request that the registry refused with this status.
    fn refusal(&self, url: String, status: StatusCode) -> anyhow::Error {
        let error = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                OciDistributionError::UnauthorizedError { url }
            }
            status => {
                let (code, message) = (status.as_u16(), status.to_string());
                OciDistributionError::ServerError { code, url, message }
            }
        };
        self.refused(error)
    }

    /// Runs an upload with a client that has this session's credentials. oci-client would ask for a token itself, and
    /// read whatever it gets.
    ///
    /// # Errors
    /// If the registry cannot be reached or refuses, and those of the upload.
    pub(super) async fn with_client<T>(
        &self,
        upload: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let client = self.connection.client();
        self.lend(&client).await?;
        let renewals = async {
            loop {
                tokio::time::sleep(TOKEN_LIFETIME).await;
                if let Err(error) = self.lend(&client).await {
                    return error;
                }
            }
        };
        tokio::select! {
            uploaded = upload(&client) => uploaded,
            error = renewals => Err(error),
        }
    }

    /// Turns the registry's error into one that says what to do about it.
    pub(super) fn refused(&self, error: OciDistributionError) -> anyhow::Error {
        let (reference, registry) = (self.reference, self.reference.resolve_registry());
        let hint = self.connection.hint(registry, &error).unwrap_or_else(|| {
            format!(
                "{registry} did not serve or accept {reference}; does the image exist, and are you logged in \
                 (`spotter login {registry} --username NAME`)?"
            )
        });
        anyhow::Error::new(error).context(hint)
    }

    /// The image.
    pub(super) fn reference(&self) -> &'a Reference {
        self.reference
    }

    async fn lend(&self, client: &Client) -> anyhow::Result<()> {
        let auth = self.auth().await?;
        if auth == RegistryAuth::Anonymous {
            return Ok(());
        }
        for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
            let lent = client.auth(self.reference, &auth, operation).await;
            lent.map_err(|error| self.refused(error))?;
        }
        Ok(())
    }

    /// Whether the registry accepts the user's credentials.
    ///
    /// # Errors
    /// If the registry cannot be reached.
    pub(super) async fn is_welcome(&self) -> anyhow::Result<bool> {
        let auth = match self.request_auth().await? {
            None => return Ok(false),
            // It accepted them when it issued the token.
            Some(RegistryAuth::Bearer(_)) => return Ok(true),
            Some(auth) => auth,
        };
        let request = self.connection.http.get(self.url("")).timeout(REPLY_TIMEOUT);
        let status = self.send(with_credentials(request, &auth)).await?.status();
        Ok(![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status))
    }

    /// The authorization of a request: a token, or else the user's credentials.
    async fn auth(&self) -> anyhow::Result<RegistryAuth> {
        let mut granted = self.granted.lock().await;
        if let Some((since, auth)) = granted.as_ref()
            && since.elapsed() < TOKEN_LIFETIME
        {
            return Ok(auth.clone());
        }
        let auth = self.request_auth().await?.ok_or_else(|| {
            let reason = "it gives this user no token for this image".to_owned();
            self.refused(OciDistributionError::AuthenticationFailure(reason))
        })?;
        *granted = Some((Instant::now(), auth.clone()));
        Ok(auth)
    }

    /// Finds out how the registry authenticates requests, and gets a token if it requires one. `None` if it refuses
    /// one.
    async fn request_auth(&self) -> anyhow::Result<Option<RegistryAuth>> {
        let ping = self.send(self.connection.http.get(self.url("")).timeout(REPLY_TIMEOUT)).await?;
        let Some(Challenge { realm, service }) = Challenge::find(ping.headers()) else {
            return Ok(Some(self.auth.clone()));
        };
        let registry = self.reference.resolve_registry();
        let mut url: Url = realm.parse().with_context(|| {
            format!("{registry} names {realm:?} as its token server, which is not a URL")
        })?;
        // A password must not be sent unencrypted just because the registry says so.
        ensure!(
            url.scheme() == "https" || url.scheme() == self.connection.scheme,
            "{registry} names {realm} as its token server; Spotter asks for tokens over HTTPS only"
        );
        let scope = format!("repository:{}:{}", self.reference.repository(), self.actions);
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let request = self.connection.http.get(url).timeout(REPLY_TIMEOUT);
        let response = self.send(with_credentials(request, &self.auth)).await?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        let body = read(response, MAX_TOKEN_BYTES, "token").await?;
        let reply: TokenReply = serde_json::from_slice(&body)
            .with_context(|| format!("{registry} sent a token reply that cannot be parsed"))?;
        let Some(token) = reply.token.or(reply.access_token) else {
            bail!("{registry} sent a reply without a token");
        };
        ensure!(
            HeaderValue::try_from(&token).is_ok(),
            "{registry} sent a token that cannot be part of a header"
        );
        Ok(Some(RegistryAuth::Bearer(token)))
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        request.send().await.map_err(|error| self.refused(error.into()))
    }

    /// The URL of a part of the image.
    fn part(&self, path: &str) -> String {
        self.url(&format!("{}/{path}", self.reference.repository()))
    }

    fn url(&self, path: &str) -> String {
        let registry = self.reference.resolve_registry();
        format!("{}://{registry}/v2/{path}", self.connection.scheme)
    }
}

/// Reads a reply that must not be longer than `max` bytes.
///
/// # Errors
/// If it is, or ends early.
pub(super) async fn read(
    mut response: Response,
    max: usize,
    what: &str,
) -> anyhow::Result<Vec<u8>> {
    let url = response.url().clone();
    let mut body = Vec::new();
    let reading = async {
        while let Some(piece) = response.chunk().await? {
            ensure!(
                body.len() + piece.len() <= max,
                "the {what} at {url} has more than {max} bytes"
            );
            body.extend_from_slice(&piece);
        }
        anyhow::Ok(())
    };
    let in_time = tokio::time::timeout(REPLY_TIMEOUT, reading).await;
    in_time.with_context(|| {
        format!("the reply from {url} was incomplete after {REPLY_TIMEOUT:?}")
    })??;
    Ok(body)
}

fn with_credentials(request: RequestBuilder, auth: &RegistryAuth) -> RequestBuilder {
    match auth {
        RegistryAuth::Anonymous => request,
        RegistryAuth::Basic(user, password) => request.basic_auth(user, Some(password)),
        RegistryAuth::Bearer(token) => request.bearer_auth(token),
    }
}

/// A registry's challenge to a request without a token: it says where to get one.
struct Challenge {
    realm: String,
    service: Option<String>,
}

impl Challenge {
    fn find(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|text| text.to_str().ok());
        let mut challenges =
            texts.filter_map(|text| http_auth::parse_challenges(text).ok()).flatten();
        let bearer = challenges.find(|found| found.scheme.eq_ignore_ascii_case("bearer"))?;
        let value = |name: &str| {
            let found = bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        Some(Self { realm: value("realm")?, service: value("service") })
    }
}

/// A token, under either of its names.
#[derive(Deserialize)]
struct TokenReply {
    token: Option<String>,
    access_token: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Challenge;
    use http::HeaderMap;
    use http::header::WWW_AUTHENTICATE;

    #[test]
    fn the_challenge_for_a_token_is_found_among_others() {
        for (challenge, expected) in [
            (
                "Bearer realm=\"https://auth.example.com/token\",service=\"a \\\"b\\\"\"",
                Some(("https://auth.example.com/token", Some("a \"b\""))),
            ),
            ("Basic realm=\"x\", bearer REALM=\"y\"", Some(("y", None))),
            ("Basic realm=\"x\"", None),
            ("Bearer service=\"x\"", None),
            ("Bearer realm=\"x", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge.parse().unwrap())]);
            let found = Challenge::find(&headers);
            let found = found.as_ref().map(|it| (it.realm.as_str(), it.service.as_deref()));
            assert_eq!(found, expected, "{challenge}");
        }
    }
}
