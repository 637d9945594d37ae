//! Converts methods, schemes and errors between the release candidate and 0.2.

use std::time::Duration;

use wasmtime_wasi_http::RequestOptions as ReleasedOptions;
use wasmtime_wasi_http::p2::bindings::http::types as released;

use super::bindings::wasi::http::types::{Error, Method, RequestOptions, Scheme};
use released::ErrorCode;

impl RequestOptions {
    pub(super) fn into_released(self) -> ReleasedOptions {
        let time = |milliseconds: Option<u32>| {
            milliseconds.map(|milliseconds| Duration::from_millis(milliseconds.into()))
        };
        ReleasedOptions {
            connect_timeout: time(self.connect_timeout_ms),
            first_byte_timeout: time(self.first_byte_timeout_ms),
            between_bytes_timeout: time(self.between_bytes_timeout_ms),
        }
    }
}

impl From<Error> for ErrorCode {
    fn from(error: Error) -> Self {
        let (Error::InvalidUrl(text)
        | Error::TimeoutError(text)
        | Error::ProtocolError(text)
        | Error::UnexpectedError(text)) = error;
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
            | ErrorCode::HttpResponseTimeout => Self::TimeoutError(text),
            ErrorCode::HttpProtocolError => Self::ProtocolError(text),
            _ => Self::UnexpectedError(text),
        }
    }
}

impl From<released::Method> for Method {
    fn from(method: released::Method) -> Self {
        match method {
            released::Method::Get => Self::Get,
            released::Method::Head => Self::Head,
            released::Method::Post => Self::Post,
            released::Method::Put => Self::Put,
            released::Method::Delete => Self::Delete,
            released::Method::Connect => Self::Connect,
            released::Method::Options => Self::Options,
            released::Method::Trace => Self::Trace,
            released::Method::Patch => Self::Patch,
            released::Method::Other(other) => Self::Other(other),
        }
    }
}

impl From<Method> for released::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::Get,
            Method::Head => Self::Head,
            Method::Post => Self::Post,
            Method::Put => Self::Put,
            Method::Delete => Self::Delete,
            Method::Connect => Self::Connect,
            Method::Options => Self::Options,
            Method::Trace => Self::Trace,
            Method::Patch => Self::Patch,
            Method::Other(other) => Self::Other(other),
        }
    }
}

impl From<released::Scheme> for Scheme {
    fn from(scheme: released::Scheme) -> Self {
        match scheme {
            released::Scheme::Http => Self::Http,
            released::Scheme::Https => Self::Https,
            released::Scheme::Other(other) => Self::Other(other),
        }
    }
}

impl From<Scheme> for released::Scheme {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http => Self::Http,
            Scheme::Https => Self::Https,
            Scheme::Other(other) => Self::Other(other),
        }
    }
}
