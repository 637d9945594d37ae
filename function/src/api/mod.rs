//! The HTTP API without a server: maps the parts of a request to the parts of a reply.

mod body;
mod json;
mod native;

use serde::Serialize;

use crate::error::{Error, shortened};
use crate::model::Model;

pub use body::{DetectRequest, PictureCount};

/// The largest body, in bytes. A host may set a lower limit.
pub const MAX_BODY_BYTES: usize = 10 << 20;

/// The parts of a request that the API uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'r> {
    pub method: &'r str,
    /// Without the query.
    pub path: &'r str,
    /// The part after `?`, percent-encoded.
    pub query: &'r str,
    pub content_type: Option<&'r str>,
    pub accept: Option<&'r str>,
    pub body: &'r [u8],
}

/// The parts of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    /// The `Allow` header of a 405.
    pub allow: Option<&'static str>,
    /// The `spotter-detections` header, from which a host counts detections:
    /// `MODEL; LABEL=NUMBER, LABEL=NUMBER`.
    pub detections_header: Option<String>,
    pub body: Vec<u8>,
}

impl Reply {
    /// A JSON reply.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        Self {
            status,
            content_type: "application/json",
            allow: None,
            detections_header: None,
            body,
        }
    }

    /// An error reply.
    pub fn error(error: &Error) -> Self {
        let allow = match error {
            Error::MethodNotAllowed { allow, .. } => Some(*allow),
            _ => None,
        };
        Self { allow, ..Self::json(error.status(), &error.body()) }
    }
}

/// The route of a request, from its method and path alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Detect,
    Labels,
    Health,
}

impl Route {
    /// Finds the route of a method and a path.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::MethodNotAllowed`].
    pub fn find(method: &str, path: &str) -> Result<Self, Error> {
        let (route, allow) = match path {
            "/detect" => (Self::Detect, "POST"),
            "/labels" => (Self::Labels, "GET, HEAD"),
            "/healthz" => (Self::Health, "GET, HEAD"),
            _ => return Err(Error::NotFound { path: shortened(path) }),
        };
        if allow.split(", ").any(|allowed| allowed == method) {
            Ok(route)
        } else {
            Err(Error::MethodNotAllowed { method: shortened(method), allow })
        }
    }
}

/// Handles a request. Errors become error replies.
pub fn respond(model: &Model, request: &Request) -> Reply {
    let reply = Route::find(request.method, request.path).and_then(|route| match route {
        Route::Detect => native::detect(model, request),
        Route::Labels => Ok(native::labels(model)),
        Route::Health => Ok(native::health(model)),
    });
    reply.unwrap_or_else(|error| Reply::error(&error))
}
