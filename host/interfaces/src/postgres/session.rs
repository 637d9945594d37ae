//! The messages that a client exchanges with a PostgreSQL server, one statement at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend::{self, BindError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bindings::v4::spin::postgres::postgres::{DbDataType, DbValue};
use super::error::{Broken, ClientError};
use super::parameters::Parameter;
use super::reply::{Reply, Wanted};
use crate::limited_stream::{LimitedStream, ReplyLimit};

/// What a server may send for one statement, in bytes.
const MAX_REPLY_BYTES: usize = 8 << 20;
/// How much is read at once, in bytes.
const READ_BYTES: usize = 16 << 10;
/// The names of types by their numbers.
const TYPE_NAMES: &str = "SELECT oid::text, typname::text FROM pg_catalog.pg_type \
                          WHERE oid = ANY ($1::oid[])";

/// A connection to a server. After an exchange that breaks it, or was not awaited to its end, it must not be used
/// again: what the server sends next could belong to that exchange.
pub(super) struct Session {
    stream: LimitedStream,
    reply_limit: Arc<ReplyLimit>,
    /// What has been received, but not read as a message.
    received: BytesMut,
}

impl Session {
    pub(super) fn new(stream: TcpStream) -> Self {
        let reply_limit = ReplyLimit::new(MAX_REPLY_BYTES);
        let stream = LimitedStream::new(stream, Arc::clone(&reply_limit));
        Self { stream, reply_limit, received: BytesMut::new() }
    }

    /// Runs a statement whose rows are wanted. The inner error leaves the session usable.
    pub(super) async fn query(
        &mut self,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<Result<Reply, ClientError>, Broken> {
        let mut reply = match self.run(statement, parameters, Wanted::Rows).await? {
            Ok(reply) => reply,
            Err(error) => return Ok(Err(error)),
        };
        self.name_types(&mut reply).await?;
        Ok(Ok(reply))
    }

    /// Runs a statement. Returns how many rows it has affected. The inner error leaves the session usable.
    pub(super) async fn execute(
        &mut self,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<Result<u64, ClientError>, Broken> {
        let reply = self.run(statement, parameters, Wanted::RowCount).await?;
        Ok(reply.map(|reply| reply.affected_rows))
    }

    async fn run(
        &mut self,
        statement: &str,
        parameters: &[Parameter],
        wanted: Wanted,
    ) -> Result<Result<Reply, ClientError>, Broken> {
        let request = match request(statement, parameters) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        self.reply_limit.reset();
        self.send(&request).await?;
        drop(request);
        let mut reply = Reply::new(wanted);
        loop {
            match self.receive().await {
                Ok(Message::ReadyForQuery(_)) => return Ok(reply.finish()),
                Ok(Message::CopyInResponse(_)) => self.refuse_to_copy().await?,
                Ok(message) => reply.read(&message)?,
                Err(broken) => return Err(reply.explain(broken)),
            }
        }
    }

    /// Ends a `COPY` that waits for data.
    async fn refuse_to_copy(&mut self) -> Result<(), Broken> {
        let mut message = BytesMut::new();
        frontend::copy_fail("COPY is not supported: use INSERT", &mut message)?;
        // The server has ignored the one that came before.
        frontend::sync(&mut message);
        self.send(&message).await
    }

    /// Names the types for which the interface has no case. A type whose name is unknown keeps its number.
    async fn name_types(&mut self, reply: &mut Reply) -> Result<(), Broken> {
        let unnamed: Vec<&str> = reply.columns.iter().filter_map(|c| other(&c.data_type)).collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        let numbers = Parameter::text(format!("{{{}}}", unnamed.join(",")));
        let Ok(found) = self.run(TYPE_NAMES, &[numbers], Wanted::Rows).await? else {
            return Ok(());
        };
        let names: BTreeMap<&str, &str> = found.rows.iter().filter_map(|row| pair(row)).collect();
        for column in &mut reply.columns {
            if let Some(name) = other(&column.data_type).and_then(|number| names.get(number)) {
                column.data_type = DbDataType::Other((*name).to_owned());
            }
        }
        Ok(())
    }

    pub(super) async fn send(&mut self, messages: &[u8]) -> Result<(), Broken> {
        Ok(self.stream.write_all(messages).await?)
    }

    /// The next message that is not about something else than the statement.
    pub(super) async fn receive(&mut self) -> Result<Message, Broken> {
        loop {
            match self.receive_any().await? {
                Message::NoticeResponse(_)
                | Message::NotificationResponse(_)
                | Message::ParameterStatus(_) => {}
                message => return Ok(message),
            }
        }
    }

    async fn receive_any(&mut self) -> Result<Message, Broken> {
        loop {
            // To read a message that is not complete would allocate what its header demands.
            let header = Header::parse(&self.received)?;
            let length = header.and_then(|header| usize::try_from(header.len()).ok());
            if length.is_some_and(|length| length < self.received.len())
                && let Some(message) = Message::parse(&mut self.received)?
            {
                return Ok(message);
            }
            self.received.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(Broken("the server closed the connection".to_owned()));
            }
        }
    }
}

/// The number of a type for which the interface has no case.
fn other(data_type: &DbDataType) -> Option<&str> {
    match data_type {
        DbDataType::Other(number) => Some(number),
        _ => None,
    }
}

/// The two texts of a row.
fn pair(row: &[DbValue]) -> Option<(&str, &str)> {
    match row {
        [DbValue::Str(first), DbValue::Str(second)] => Some((first, second)),
        _ => None,
    }
}

/// The messages that make the server run a statement, all at once.
fn request(statement: &str, parameters: &[Parameter]) -> Result<BytesMut, ClientError> {
    let invalid = |reason: &dyn ToString| ClientError::BadParameter(reason.to_string());
    let mut request = BytesMut::new();
    let types = parameters.iter().map(|parameter| parameter.type_number);
    frontend::parse("", statement, types, &mut request).map_err(|error| invalid(&error))?;
    let all_in_binary = Some(1);
    let bound = frontend::bind(
        "",
        "",
        parameters.iter().map(|parameter| parameter.format),
        parameters,
        |parameter, request| {
            let Some(value) = &parameter.value else { return Ok(IsNull::Yes) };
            request.extend_from_slice(value);
            Ok(IsNull::No)
        },
        all_in_binary,
        &mut request,
    );
    bound.map_err(|error| match error {
        BindError::Conversion(error) => invalid(&error),
        BindError::Serialization(error) => invalid(&error),
    })?;
    let all_rows = 0;
    frontend::describe(b'P', "", &mut request).map_err(|error| invalid(&error))?;
    frontend::execute("", all_rows, &mut request).map_err(|error| invalid(&error))?;
    frontend::sync(&mut request);
    Ok(request)
}
