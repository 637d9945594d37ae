//! The HTTP APIs without a server: functions from the parts of a request to the parts of a reply.
//!
//! ```text
//! request ▸ routes ▸ an API's reader ▸ detection ▸ the API's writer ▸ reply
//! ```
//!
//! Spotter has an API of its own, and those of other servers, so that their clients work with it unchanged.

mod accept;
mod base64;
mod body;
mod deepstack;
mod detection;
mod form;
mod hugging_face;
mod json;
mod native;
mod open_inference;
#[cfg(test)]
mod openapi;
mod page;
mod reply;
mod roboflow;
mod routes;

use crate::error::{Error, shortened};
use crate::model::Model;

pub use body::{DetectRequest, PictureCount};
pub use reply::Reply;
pub use routes::Route;

/// The largest body, in bytes. A host may set a lower limit.
pub const MAX_BODY_BYTES: usize = 10 << 20;

/// The parts of a request that the APIs use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'r> {
    /// The part after `?`, percent-encoded.
    pub query: &'r str,
    pub content_type: Option<&'r str>,
    pub accept: Option<&'r str>,
    /// The length of the JSON before binary data, in an inference request.
    pub inference_header_length: Option<&'r str>,
    pub body: &'r [u8],
}

impl Request<'_> {
    /// Whether the content type is this one, with or without a suffix (`+proto`) and parameters. The case of letters does
    /// not matter (RFC 9110, 8.3.1).
    fn has_media_type(&self, media_type: &str) -> bool {
        let given = self.content_type.unwrap_or_default();
        let given = given.split(['+', ';']).next().unwrap_or_default();
        given.trim().eq_ignore_ascii_case(media_type)
    }
}

/// The APIs, each with its own shape of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Native,
    DeepStack,
    Grpc,
    HuggingFace,
    OpenInference,
    Roboflow,
}

impl Api {
    /// The API that a path without a route most likely belongs to.
    fn for_path(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("v1") => Self::DeepStack,
            Some("v2") => Self::OpenInference,
            Some(service) if service.starts_with("inference.") => Self::Grpc,
            Some("models") => Self::HuggingFace,
            Some("infer" | "model") => Self::Roboflow,
            _ => Self::Native,
        }
    }

    /// The reply to an error, in this API's shape.
    fn error(self, error: &Error) -> Reply {
        let reply = match self {
            Self::Native => Reply::error(error),
            Self::DeepStack => deepstack::error(error),
            Self::Grpc => open_inference::grpc::error(error),
            Self::HuggingFace | Self::OpenInference => open_inference::error(error),
            Self::Roboflow => roboflow::error(error),
        };
        match error {
            Error::MethodNotAllowed { allow, .. } => reply.with_header("allow", allow),
            _ => reply,
        }
    }
}

/// Checks a model's name in a path or a body.
fn check_model(name: &str, model: &Model) -> Result<(), Error> {
    let served = &model.config().name;
    if name == served {
        return Ok(());
    }
    Err(Error::UnknownModel { name: shortened(name), served: served.clone() })
}
