//! Why the client fails, and the errors that a server reports.

use std::convert::Infallible;
use std::io;

use bytes::TryGetError;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;

use super::bindings::v4::spin::postgres::postgres::DbError;

/// Why a connection cannot be opened, or a statement fails.
#[expect(unreachable_pub, reason = "conversions of the generated bindings' types return it")]
#[derive(Debug)]
pub enum ClientError {
    /// The address is malformed, the manifest does not allow the server, or the connection fails.
    ConnectionFailed(String),
    BadParameter(String),
    /// The server refuses the statement.
    Refused(Box<DbError>),
    QueryFailed(String),
    /// A value of the result is malformed, or the interface cannot represent it.
    ValueConversionFailed(String),
}

/// Why a connection cannot be used any more.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);

impl From<Broken> for ClientError {
    fn from(Broken(text): Broken) -> Self {
        Self::ConnectionFailed(text)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self(format!("the connection to the server failed: {error}"))
    }
}

impl From<TryGetError> for ClientError {
    fn from(_: TryGetError) -> Self {
        malformed()
    }
}

impl From<Infallible> for ClientError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A value that is not encoded as its type demands.
pub(super) fn malformed() -> ClientError {
    ClientError::ValueConversionFailed("the server sent a malformed value".to_owned())
}

/// Reads what a server reports.
pub(super) fn server_error(body: &ErrorResponseBody) -> Box<DbError> {
    let mut error = DbError {
        as_text: String::new(),
        severity: String::new(),
        code: String::new(),
        message: String::new(),
        detail: None,
        extras: Vec::new(),
    };
    let mut fields = body.fields();
    // What follows a malformed field is left out.
    while let Ok(Some(field)) = fields.next() {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'S' => error.severity = text,
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            other => error.extras.extend(extra_name(other).map(|name| (name.to_owned(), text))),
        }
    }
    error.as_text = format!("{}: {} (SQLSTATE {})", error.severity, error.message, error.code);
    if let Some(detail) = &error.detail {
        error.as_text += &format!(": {detail}");
    }
    Box::new(error)
}

/// How Spin names a further field of an error.
fn extra_name(field: u8) -> Option<&'static str> {
    Some(match field {
        b'H' => "hint",
        b'P' => "position",
        b'W' => "where_",
        b's' => "schema",
        b't' => "table",
        b'c' => "column",
        b'd' => "datatype",
        b'n' => "constraint",
        b'F' => "file",
        b'L' => "line",
        b'R' => "routine",
        _ => return None,
    })
}
