//! Connections of components to PostgreSQL, with limits on how long a server may take and how much it may send.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::address::Address;
use super::bindings::v4::spin::postgres::postgres::{Column, ParameterValue, Row};
use super::error::{Broken, ClientError};
use super::parameters::Parameter;
use super::reply::MAX_RESULT_BYTES;
use super::session::Session;
use crate::outbound_tcp::{ConnectError, OutboundTcp};
use crate::waiting_bytes::WaitingBytes;

/// How long a server may take for a login, or a statement.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The scheme of servers in `allowed_outbound_hosts`.
const POSTGRES_SCHEME: &str = "postgres";

/// A connection that an instance has opened.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct OpenPostgres(Arc<OpenPostgresInner>);

struct OpenPostgresInner {
    /// Runs one statement at a time. `None` once one has broken the connection, or the guest has abandoned it.
    session: Mutex<Option<Session>>,
    waiting: WaitingBytes,
    /// How many more bytes the results may take that the guest has not read.
    results: Arc<Semaphore>,
    _permits: [OwnedSemaphorePermit; 2],
}

/// A statement's result, which counts as long as its permit is held.
pub(super) struct QueryResult {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    pub(super) permit: OwnedSemaphorePermit,
}

impl OpenPostgres {
    /// Connects to the server at an address such as `postgres://user:password@host/database`, or `host=localhost
    /// user=postgres`.
    pub(super) async fn open(outbound: &OutboundTcp, address: &str) -> Result<Self, ClientError> {
        let address = Address::parse(address).map_err(ClientError::ConnectionFailed)?;
        let Address { host, port, .. } = &address;
        let connected = outbound.connect(POSTGRES_SCHEME, host, *port).await;
        let connected = connected.map_err(|error| {
            ClientError::ConnectionFailed(match error {
                ConnectError::Denied => format!(
                    "address {POSTGRES_SCHEME}://{host}:{port} is not permitted: add it to \
                     `allowed_outbound_hosts`"
                ),
                ConnectError::TooMany => "too many connections".to_owned(),
                ConnectError::Failed(text) => text,
            })
        })?;
        let session = in_time(Session::open(connected.stream, &address)).await?;
        Ok(Self(Arc::new(OpenPostgresInner {
            session: Mutex::new(Some(session)),
            waiting: WaitingBytes::new(),
            results: Arc::new(Semaphore::new(MAX_RESULT_BYTES)),
            _permits: connected.permits,
        })))
    }

    /// Runs a statement, and reads all rows of its result.
    pub(super) async fn query(
        &self,
        statement: &str,
        parameters: Vec<ParameterValue>,
    ) -> Result<QueryResult, ClientError> {
        let parameters = encode(parameters)?;
        let _waiting = self.wait(statement, &parameters)?;
        let mut open = self.0.session.lock().await;
        let mut session = open.take().ok_or_else(closed)?;
        let outcome = in_time(session.query(statement, &parameters)).await?;
        *open = Some(session);
        let reply = outcome?;
        let size = u32::try_from(reply.size()).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0.results).try_acquire_many_owned(size).map_err(|_| {
            ClientError::QueryFailed(format!(
                "unread results would take more than {MAX_RESULT_BYTES} bytes: read earlier ones first"
            ))
        })?;
        Ok(QueryResult { columns: reply.columns, rows: reply.rows, permit })
    }

    /// Runs a statement. Returns how many rows it has affected.
    pub(super) async fn execute(
        &self,
        statement: &str,
        parameters: Vec<ParameterValue>,
    ) -> Result<u64, ClientError> {
        let parameters = encode(parameters)?;
        let _waiting = self.wait(statement, &parameters)?;
        let mut open = self.0.session.lock().await;
        let mut session = open.take().ok_or_else(closed)?;
        let outcome = in_time(session.execute(statement, &parameters)).await?;
        *open = Some(session);
        outcome
    }

    /// Counts what waits for the connection.
    fn wait(
        &self,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<OwnedSemaphorePermit, ClientError> {
        let bytes = statement.len() + parameters.iter().map(Parameter::size).sum::<usize>();
        let waiting = self.0.waiting.add(bytes);
        waiting.map_err(|error| ClientError::BadParameter(error.to_string()))
    }
}

fn encode(parameters: Vec<ParameterValue>) -> Result<Vec<Parameter>, ClientError> {
    parameters.into_iter().map(TryInto::try_into).collect()
}

fn closed() -> ClientError {
    let text = "the connection was closed after an error: open another";
    ClientError::ConnectionFailed(text.to_owned())
}

async fn in_time<T>(exchange: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    timeout(RESPONSE_TIMEOUT, exchange).await.unwrap_or_else(|_| {
        Err(Broken(format!("the server did not reply within {RESPONSE_TIMEOUT:?}")))
    })
}
