//! A connection to Redis that all instances share: opened when it is needed, and again after a failure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, Value, cmd,
};
use spotter_config::redis_server::RedisServer;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::limited_stream::{LimitedStream, ReplyLimit};
use crate::redis::client::{MAX_REPLY_BYTES, RESPONSE_TIMEOUT};

/// How long the server may take to accept a connection and to log in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many commands may wait for their replies at once, which bounds the memory of both.
const MAX_AWAITED_REPLIES: usize = 8;
/// How long commands fail at once after the first failure to connect. Each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is sent in one piece.
pub(crate) enum Request {
    Command(Cmd),
    /// It must be `atomic`.
    Transaction(Pipeline),
}

/// A server, and the connection to it if there is one.
#[derive(Clone)]
pub(crate) struct SharedRedis(Arc<SharedRedisInner>);

struct SharedRedisInner {
    /// The store's name.
    label: String,
    server: RedisServer,
    replies: Arc<Semaphore>,
    state: Mutex<ConnectionState>,
}

#[derive(Default)]
struct ConnectionState {
    connection: Option<Arc<Connection>>,
    /// Why the last attempt to connect failed, if it did.
    failure: Option<Failure>,
}

struct Failure {
    reason: String,
    /// How long nobody tries again.
    pause: Duration,
    ended: Instant,
}

impl SharedRedis {
    pub(crate) fn new(label: &str, server: RedisServer) -> Self {
        let (label, state) = (label.to_owned(), Mutex::default());
        Self(Arc::new(SharedRedisInner {
            label,
            server,
            replies: Arc::new(Semaphore::new(MAX_AWAITED_REPLIES)),
            state,
        }))
    }

    /// Sends a request whose reply is of this type. Fails if the server is away; never waits for long.
    pub(crate) async fn run<R: FromRedisValue + Send + 'static>(
        &self,
        request: Request,
    ) -> anyhow::Result<R> {
        let label = &self.0.label;
        let waits = timeout(RESPONSE_TIMEOUT, Arc::clone(&self.0.replies).acquire_owned());
        let permit = waits.await.with_context(|| {
            format!("the store {label:?} is busy: earlier commands take longer than {RESPONSE_TIMEOUT:?}")
        })??;
        let shared = self.clone();
        // In a task of its own, because a guest that is stopped takes back nothing that was sent: the reply still
        // arrives, and counts.
        let running = tokio::spawn(async move {
            let _permit = permit;
            shared.run_to_end(&request).await
        });
        running.await?
    }

    async fn run_to_end<R: FromRedisValue>(&self, request: &Request) -> anyhow::Result<R> {
        let connection = self.connected().await?;
        let reply = connection.run(request).await;
        reply.or_else(|error| {
            if error.is_timeout() || error.is_io_error() {
                connection.close();
            }
            bail!("the store {:?}: {}", self.0.label, describe(&error))
        })
    }

    /// The connection. Opens one if there is none, but only one caller at a time does.
    async fn connected(&self) -> anyhow::Result<Arc<Connection>> {
        let SharedRedisInner { label, server, state, .. } = &*self.0;
        let mut state = state.lock().await;
        if let Some(open) = state.connection.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(open));
        }
        if let Some(Failure { reason, pause, ended }) = &state.failure
            && ended.elapsed() < *pause
        {
            bail!("{reason}");
        }
        let opening = timeout(CONNECT_TIMEOUT, Connection::open(server)).await;
        let opened = opening.unwrap_or_else(|_| {
            Err(anyhow!("the server did not accept the connection within {CONNECT_TIMEOUT:?}"))
        });
        match opened {
            Ok(connection) => {
                if state.failure.take().is_some() {
                    tracing::info!("the store {label:?} at {server} is available again");
                }
                Ok(Arc::clone(state.connection.insert(Arc::new(connection))))
            }
            Err(error) => {
                let error = error.context(format!("the store {label:?} is unavailable"));
                if state.failure.is_none() {
                    tracing::warn!(
                        "the key-value store at {server}: calls to it fail, because {error:#}; start the server, or correct \
                         [key_value_store.{label}] in the runtime configuration"
                    );
                }
                state.failure = Some(Failure::after(state.failure.take(), format!("{error:#}")));
                Err(error)
            }
        }
    }
}

impl Failure {
    fn after(earlier: Option<Self>, reason: String) -> Self {
        let pause = earlier.map_or(FIRST_PAUSE, |earlier| (earlier.pause * 2).min(LONGEST_PAUSE));
        Self { reason, pause, ended: Instant::now() }
    }
}

/// What went wrong, for guests and for the log.
fn describe(error: &RedisError) -> String {
    if error.is_timeout() {
        return format!("the server did not reply within {RESPONSE_TIMEOUT:?}");
    }
    match error.kind() {
        // The error itself would repeat the reply.
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            "the server's reply is not one to this command: is it a Redis server?".to_owned()
        }
        _ => error.to_string(),
    }
}

/// An open connection.
struct Connection {
    connection: MultiplexedConnection,
    replies: AwaitedReplies,
    driver: AbortHandle,
    is_closed: AtomicBool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl Connection {
    async fn open(server: &RedisServer) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
        stream.set_nodelay(true)?;
        let replies = AwaitedReplies::none();
        let stream = LimitedStream::new(stream, Arc::clone(&replies.limit));
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let login = replies.add();
        let settings = settings(server);
        let opening = MultiplexedConnection::new_with_config(&settings, stream, config);
        let (connection, driver) = opening.await.map_err(|error| anyhow!(describe(&error)))?;
        drop(login);
        let driver = tokio::spawn(driver).abort_handle();
        let opened = Self { connection, replies, driver, is_closed: AtomicBool::new(false) };
        // A server without a password has said nothing so far, and one that needs a password is asked here for the
        // first time if the URL has none.
        match opened.run::<Value>(&Request::Command(cmd("PING"))).await {
            Err(error) if error.code() != Some("NOPERM") => bail!(describe(&error)),
            _ => Ok(opened),
        }
    }

    async fn run<R: FromRedisValue>(&self, request: &Request) -> Result<R, RedisError> {
        let _reply = self.replies.add();
        let mut connection = self.connection.clone();
        match request {
            Request::Command(command) => command.query_async(&mut connection).await,
            Request::Transaction(commands) => commands.query_async(&mut connection).await,
        }
    }

    fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed) && !self.driver.is_finished()
    }

    /// Makes all commands fail that wait for replies.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.driver.abort();
    }
}

fn settings(server: &RedisServer) -> RedisConnectionInfo {
    let RedisServer { user, password, database, .. } = server;
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP2)
        .set_skip_set_lib_name()
        .set_db(i64::from(*database));
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    settings
}

/// Lets the server send a reply for each command that waits for one, and nothing else.
struct AwaitedReplies {
    limit: Arc<ReplyLimit>,
    number: std::sync::Mutex<usize>,
}

impl AwaitedReplies {
    fn none() -> Self {
        let limit = ReplyLimit::new(MAX_REPLY_BYTES);
        limit.keep_replies(0);
        Self { limit, number: std::sync::Mutex::default() }
    }

    fn add(&self) -> AwaitedReply<'_> {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        *number += 1;
        self.limit.add_reply();
        AwaitedReply(self)
    }
}

/// A reply that is awaited until this is dropped.
struct AwaitedReply<'a>(&'a AwaitedReplies);

impl Drop for AwaitedReply<'_> {
    /// Takes back what the reply has not used: the others need no more than each its own.
    fn drop(&mut self) {
        let mut number = self.0.number.lock().unwrap_or_else(PoisonError::into_inner);
        *number -= 1;
        self.0.limit.keep_replies(*number);
    }
}

#[cfg(test)]
mod tests {
    use super::{AwaitedReplies, MAX_REPLY_BYTES};

    #[test]
    fn the_server_may_send_as_much_as_the_awaited_replies() {
        let replies = AwaitedReplies::none();
        assert!(!replies.limit.spend(1));
        let (first, second) = (replies.add(), replies.add());
        // The first arrives, and half of the second.
        assert!(replies.limit.spend(100 + MAX_REPLY_BYTES / 2));
        drop(first);
        let third = replies.add();
        drop(second);
        assert!(!replies.limit.spend(MAX_REPLY_BYTES + 1));
        assert!(replies.limit.spend(MAX_REPLY_BYTES));
        drop(third);
        assert!(!replies.limit.spend(1));
    }
}
