//! A server's reply to a statement.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{
    CommandCompleteBody, DataRowBody, Message, RowDescriptionBody,
};

use super::bindings::v4::spin::postgres::postgres::{Column, DbDataType, DbValue, Row};
use super::budget::Budget;
use super::error::{Broken, ClientError, malformed, server_error};
use super::values::{data_type, decode};

/// The memory that a result may take, in bytes.
pub(super) const MAX_RESULT_BYTES: usize = 16 << 20;

/// What a statement is run for.
pub(super) enum Wanted {
    Rows,
    RowCount,
}

pub(super) struct Reply {
    wanted: Wanted,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    pub(super) affected_rows: u64,
    budget: Budget,
    /// The first error. The server goes on until the end of its reply.
    error: Option<ClientError>,
}

impl Reply {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            columns: Vec::new(),
            rows: Vec::new(),
            affected_rows: 0,
            budget: Budget::new(MAX_RESULT_BYTES),
            error: None,
        }
    }

    /// Reads one of its messages. Fails if the server does not follow the protocol.
    pub(super) fn read(&mut self, message: &Message) -> Result<(), Broken> {
        match message {
            Message::RowDescription(body) => self.columns = columns(body)?,
            Message::DataRow(body) => {
                if matches!(self.wanted, Wanted::Rows) && self.error.is_none() {
                    match self.row(body) {
                        Ok(row) => self.rows.push(row),
                        Err(error) => self.fail(error),
                    }
                }
            }
            Message::CommandComplete(body) => self.affected_rows = affected_rows(body)?,
            Message::ErrorResponse(body) => self.fail(ClientError::Refused(server_error(body))),
            Message::CopyOutResponse(_) => {
                let text = "COPY is not supported: use SELECT".to_owned();
                self.fail(ClientError::QueryFailed(text));
            }
            Message::ParseComplete
            | Message::BindComplete
            | Message::NoData
            | Message::EmptyQueryResponse
            | Message::CopyData(_)
            | Message::CopyDone => {}
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Self, ClientError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// Why the connection has broken: the server may have said so before it closed it.
    pub(super) fn explain(self, broken: Broken) -> Broken {
        match self.error {
            Some(ClientError::Refused(error)) => Broken(error.as_text),
            _ => broken,
        }
    }

    /// The memory that the rows take, in bytes.
    pub(super) fn size(&self) -> usize {
        self.budget.spent()
    }

    fn fail(&mut self, error: ClientError) {
        self.rows = Vec::new();
        self.error.get_or_insert(error);
    }

    fn row(&mut self, body: &DataRowBody) -> Result<Row, ClientError> {
        let Self { columns, budget, .. } = self;
        budget.spend(size_of::<Row>() + columns.len() * size_of::<DbValue>())?;
        let mut row = Vec::with_capacity(columns.len());
        let mut ranges = body.ranges();
        for column in &*columns {
            let range = ranges.next().ok().flatten().ok_or_else(malformed)?;
            let bytes = range.map(|range| body.buffer().get(range).ok_or_else(malformed));
            row.push(match bytes.transpose()? {
                Some(bytes) => decode(&column.data_type, bytes, budget)
                    .map_err(|error| in_column(&column.name, error))?,
                None => DbValue::DbNull,
            });
        }
        match ranges.next() {
            Ok(None) => Ok(row),
            _ => Err(malformed()),
        }
    }
}

pub(super) fn unexpected() -> Broken {
    Broken("the server does not follow PostgreSQL's protocol".to_owned())
}

/// The columns. A type for which the interface has no case is its number.
fn columns(body: &RowDescriptionBody) -> Result<Vec<Column>, Broken> {
    let columns = body.fields().map(|field| {
        let number = field.type_oid();
        let data_type = data_type(number).unwrap_or_else(|| DbDataType::Other(number.to_string()));
        Ok(Column { name: field.name().to_owned(), data_type })
    });
    Ok(columns.collect()?)
}

/// The last word of what the server says about a statement, such as `INSERT 0 3`.
fn affected_rows(body: &CommandCompleteBody) -> Result<u64, Broken> {
    let count = body.tag()?.rsplit(' ').next().and_then(|count| count.parse().ok());
    Ok(count.unwrap_or_default())
}

fn in_column(name: &str, error: ClientError) -> ClientError {
    match error {
        ClientError::ValueConversionFailed(text) => {
            ClientError::ValueConversionFailed(format!("column `{name}`: {text}"))
        }
        error => error,
    }
}
