//! Errors and timeouts of the release candidate, and their equivalents in 0.2.

use std::time::Duration;

use wasmtime::component::{ComponentType, Lift, Lower};
use wasmtime_wasi_http::RequestOptions as ReleasedOptions;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

/// `request-options`.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct RequestOptions {
    #[component(name = "connect-timeout-ms")]
    connect_timeout_ms: Option<u32>,
    #[component(name = "first-byte-timeout-ms")]
    first_byte_timeout_ms: Option<u32>,
    #[component(name = "between-bytes-timeout-ms")]
    between_bytes_timeout_ms: Option<u32>,
}

impl From<RequestOptions> for ReleasedOptions {
    fn from(options: RequestOptions) -> Self {
        let time = |milliseconds: Option<u32>| {
            milliseconds.map(|milliseconds| Duration::from_millis(milliseconds.into()))
        };
        Self {
            connect_timeout: time(options.connect_timeout_ms),
            first_byte_timeout: time(options.first_byte_timeout_ms),
            between_bytes_timeout: time(options.between_bytes_timeout_ms),
        }
    }
}

/// `error`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum Error {
    #[component(name = "invalid-url")]
    InvalidUrl(String),
    #[component(name = "timeout-error")]
    Timeout(String),
    #[component(name = "protocol-error")]
    Protocol(String),
    #[component(name = "unexpected-error")]
    Unexpected(String),
}

impl From<Error> for ErrorCode {
    fn from(error: Error) -> Self {
        let (Error::InvalidUrl(text)
        | Error::Timeout(text)
        | Error::Protocol(text)
        | Error::Unexpected(text)) = error;
        Self::InternalError(Some(text))
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        let text = code.to_string();
        match code {
            ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => {
                Self::InvalidUrl(text)
            }
            ErrorCode::DnsTimeout
            | ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout => Self::Timeout(text),
            ErrorCode::HttpProtocolError => Self::Protocol(text),
            _ => Self::Unexpected(text),
        }
    }
}
