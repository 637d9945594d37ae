//! Connections of components to Redis and Valkey, with limits on how long a server may take and how much it may send.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    Arg, AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo,
    ProtocolVersion, RedisError, Value,
};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::AbortHandle;

use crate::limited_stream::{LimitedStream, ReplyLimit};
use crate::outbound_tcp::{ConnectError, OutboundTcp};
use crate::waiting_bytes::WaitingBytes;

/// How long a server may take for a reply.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest reply, in bytes.
pub(crate) const MAX_REPLY_BYTES: usize = 8 << 20;
/// The scheme of servers in `allowed_outbound_hosts`.
const REDIS_SCHEME: &str = "redis";

/// Why a connection cannot be opened, or a command fails.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The address is malformed, or the manifest does not allow it.
    InvalidAddress,
    TooManyConnections,
    /// The key holds a value of another type than the command needs.
    WrongType,
    Other(String),
}

impl From<RedisError> for ClientError {
    fn from(error: RedisError) -> Self {
        let is_number_expected = || error.to_string().contains("not an integer");
        if error.kind() == ErrorKind::UnexpectedReturnType
            || error.code() == Some("WRONGTYPE")
            || is_number_expected()
        {
            return Self::WrongType;
        }
        if error.is_timeout() {
            return Self::Other(format!("the server did not reply within {RESPONSE_TIMEOUT:?}"));
        }
        Self::Other(error.to_string())
    }
}

impl From<ConnectError> for ClientError {
    fn from(reason: ConnectError) -> Self {
        match reason {
            ConnectError::Denied => Self::InvalidAddress,
            ConnectError::TooMany => Self::TooManyConnections,
            ConnectError::Failed(text) => Self::Other(text),
        }
    }
}

/// One item of a reply.
pub(crate) enum Item {
    Nil,
    Status(String),
    Int64(i64),
    Binary(Vec<u8>),
}

/// A connection that an instance has opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct OpenRedis(Arc<OpenRedisInner>);

struct OpenRedisInner {
    /// One command at a time, so that there is one reply at a time to limit.
    connection: Mutex<MultiplexedConnection>,
    reply_limit: Arc<ReplyLimit>,
    waiting: WaitingBytes,
    driver: AbortHandle,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Drop for OpenRedisInner {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl OpenRedis {
    /// Connects to the server at a URL such as `redis://user:password@host:6379/0`.
    pub(crate) async fn open(outbound: &OutboundTcp, url: &str) -> Result<Self, ClientError> {
        let server = url.into_connection_info().map_err(|_| ClientError::InvalidAddress)?;
        let ConnectionAddr::Tcp(host, port) = server.addr() else {
            return Err(ClientError::InvalidAddress);
        };
        let connected = outbound.connect(REDIS_SCHEME, host, *port).await?;
        let reply_limit = ReplyLimit::new(MAX_REPLY_BYTES);
        let stream = LimitedStream::new(connected.stream, Arc::clone(&reply_limit));
        let settings = server.redis_settings().clone();
        let settings = settings.set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let opening = MultiplexedConnection::new_with_config(&settings, stream, config);
        let (connection, driver) =
            tokio::time::timeout(RESPONSE_TIMEOUT, opening).await.map_err(|_| {
                ClientError::Other(format!("the server did not reply within {RESPONSE_TIMEOUT:?}"))
            })??;
        let driver = tokio::spawn(driver).abort_handle();
        let connection = Mutex::new(connection);
        Ok(Self(Arc::new(OpenRedisInner {
            connection,
            reply_limit,
            waiting: WaitingBytes::new(),
            driver,
            _permits: connected.permits,
        })))
    }

    /// Runs a command whose reply is of this type.
    pub(crate) async fn run<R: FromRedisValue>(&self, command: &Cmd) -> Result<R, ClientError> {
        let waiting = self.0.waiting.add(size(command));
        let _waiting = waiting.map_err(|error| ClientError::Other(error.to_string()))?;
        let mut connection = self.0.connection.lock().await;
        self.0.reply_limit.reset();
        Ok(command.query_async(&mut *connection).await?)
    }

    /// Runs any command. Nested replies become one list.
    pub(crate) async fn execute(&self, command: &Cmd) -> Result<Vec<Item>, ClientError> {
        let mut items = Vec::new();
        flatten(self.run(command).await?, &mut items)?;
        Ok(items)
    }
}

/// The size of a command's arguments, in bytes.
fn size(command: &Cmd) -> usize {
    let sizes = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    });
    sizes.sum()
}

fn flatten(value: Value, items: &mut Vec<Item>) -> Result<(), ClientError> {
    items.push(match value {
        Value::Nil => Item::Nil,
        Value::Int(number) => Item::Int64(number),
        Value::BulkString(bytes) => Item::Binary(bytes),
        Value::SimpleString(text) => Item::Status(text),
        Value::Okay => Item::Status("OK".to_owned()),
        Value::Array(values) => {
            return values.into_iter().try_for_each(|value| flatten(value, items));
        }
        other => return Err(ClientError::Other(format!("a reply of unknown type: {other:?}"))),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use redis::cmd;
    use spotter_app::allowed_hosts::AllowedHosts;
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::{ClientError, OpenRedis};
    use crate::outbound_tcp::OutboundTcp;
    use crate::waiting_bytes::MAX_WAITING_BYTES;

    #[tokio::test]
    async fn calls_that_wait_for_a_silent_server_are_bounded_together() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("redis://{}", listener.local_addr().unwrap());
        let outbound = OutboundTcp {
            allowed: Arc::new(AllowedHosts::parse(std::slice::from_ref(&address)).unwrap()),
            component: "guest".to_owned(),
            connections: Arc::new(Semaphore::new(1)),
            own_connections: Arc::new(Semaphore::new(1)),
        };
        let opened = OpenRedis::open(&outbound, &address).await.unwrap();
        let mut command = cmd("SET");
        command.arg("key").arg(vec![0; MAX_WAITING_BYTES / 2]);
        let waiting = tokio::spawn({
            let (opened, command) = (opened.clone(), command.clone());
            async move { opened.run::<()>(&command).await }
        });
        tokio::task::yield_now().await;
        let refused = opened.run::<()>(&command).await.unwrap_err();
        assert!(matches!(&refused, ClientError::Other(text) if text.contains("would wait")));
        assert!(!waiting.is_finished());
        waiting.abort();
    }
}
