//! The login to a PostgreSQL server: `scram-sha-256`, `md5`, `password` or `trust`.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::address::Address;
use super::error::{Broken, server_error};
use super::reply::unexpected;
use super::session::Session;

/// How many times a server may have the password hashed. By default, PostgreSQL demands 4096.
const MAX_ITERATIONS: u32 = 100_000;

impl Session {
    /// Logs in to the server at the other end.
    pub(super) async fn open(stream: TcpStream, address: &Address) -> Result<Self, Broken> {
        let mut session = Self::new(stream);
        session.start(address).await?;
        session.authenticate(address).await?;
        loop {
            match session.receive().await? {
                Message::BackendKeyData(_) => {}
                Message::ReadyForQuery(_) => return Ok(session),
                other => return Err(refusal(&other)),
            }
        }
    }

    async fn start(&mut self, address: &Address) -> Result<(), Broken> {
        let own = [("client_encoding", "UTF8"), ("user", address.user.as_str())];
        let parameters = address.parameters.iter().map(|(name, value)| (*name, value.as_str()));
        let mut message = BytesMut::new();
        frontend::startup_message(own.into_iter().chain(parameters), &mut message)?;
        self.send(&message).await
    }

    async fn authenticate(&mut self, address: &Address) -> Result<(), Broken> {
        let password = || {
            let missing = "the server demands a password: add password=… to the address";
            let password = address.password.as_deref().map(str::as_bytes);
            password.ok_or_else(|| Broken(missing.to_owned()))
        };
        match self.receive().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => self.send_password(password()?).await?,
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(address.user.as_bytes(), password()?, body.salt());
                self.send_password(hash.as_bytes()).await?;
            }
            Message::AuthenticationSasl(body) => {
                self.authenticate_with_scram(&body, password()?).await?;
            }
            other => return Err(refusal(&other)),
        }
        match self.receive().await? {
            Message::AuthenticationOk => Ok(()),
            other => Err(refusal(&other)),
        }
    }

    async fn send_password(&mut self, password: &[u8]) -> Result<(), Broken> {
        let mut message = BytesMut::new();
        frontend::password_message(password, &mut message)?;
        self.send(&message).await
    }

    async fn authenticate_with_scram(
        &mut self,
        offered: &AuthenticationSaslBody,
        password: &[u8],
    ) -> Result<(), Broken> {
        if !offered.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256))? {
            return Err(Broken("the server does not offer SCRAM-SHA-256".to_owned()));
        }
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message)?;
        self.send(&message).await?;
        let challenge = match self.receive().await? {
            Message::AuthenticationSaslContinue(body) => body.data().to_vec(),
            other => return Err(refusal(&other)),
        };
        check_iterations(&challenge)?;
        let hashing = spawn_blocking(move || scram.update(&challenge).map(|()| scram));
        scram = hashing.await.map_err(|error| Broken(error.to_string()))??;
        let mut message = BytesMut::new();
        frontend::sasl_response(scram.message(), &mut message)?;
        self.send(&message).await?;
        match self.receive().await? {
            Message::AuthenticationSaslFinal(body) => Ok(scram.finish(body.data())?),
            other => Err(refusal(&other)),
        }
    }
}

/// Why the server does not go on with the login.
fn refusal(message: &Message) -> Broken {
    match message {
        Message::ErrorResponse(body) => Broken(server_error(body).as_text),
        Message::AuthenticationGss
        | Message::AuthenticationKerberosV5
        | Message::AuthenticationScmCredential
        | Message::AuthenticationSspi => Broken(
            "the server demands a login that is not supported: use scram-sha-256, md5 or password"
                .to_owned(),
        ),
        _ => unexpected(),
    }
}

/// Checks a challenge such as `r=…,s=…,i=4096` before a billion iterations can keep a processor busy.
fn check_iterations(challenge: &[u8]) -> Result<(), Broken> {
    let challenge = String::from_utf8_lossy(challenge);
    let iterations = challenge.split(',').find_map(|attribute| attribute.strip_prefix("i="));
    match iterations.and_then(|iterations| iterations.parse::<u32>().ok()) {
        Some(0..=MAX_ITERATIONS) => Ok(()),
        Some(iterations) => Err(Broken(format!(
            "the server demands that the password be hashed {iterations} times: at most {MAX_ITERATIONS} are \
             allowed"
        ))),
        None => Err(unexpected()),
    }
}
