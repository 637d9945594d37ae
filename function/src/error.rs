//! All errors that a client can get, each with a stable code, an HTTP status, and a message that names the
//! invalid value and what to do.
//!
//! Codes are part of the API, so they never change. Messages may.

use serde::Serialize;

/// Why a request was rejected or, for [`Error::Internal`] and [`Error::NotBaked`], why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the body is empty: send a picture (JPEG, PNG, WebP, GIF or BMP)")]
    EmptyBody,
    #[error("the body is larger than {limit} bytes: send a smaller picture")]
    BodyTooLarge { limit: usize },
    #[error("content type {content_type:?} is not supported: send {expected}")]
    UnsupportedMediaType { content_type: String, expected: String },
    #[error("this is not a picture in a supported format (JPEG, PNG, WebP, GIF, BMP): {reason}")]
    NotAPicture { reason: String },
    #[error("the picture is incomplete: {reason}; send the whole file")]
    TruncatedPicture { reason: String },
    #[error(
        "the picture has {width}x{height} pixels; the limit is {max_side} pixels a side and \
         {max_megapixels} megapixels: send a smaller one"
    )]
    PictureTooLarge { width: u32, height: u32, max_side: u32, max_megapixels: u64 },
    #[error(
        "decoding this {width}x{height} picture needs {needed} MiB, but the limit is {limit} MiB: send a \
         smaller one, or save it as a baseline 8-bit JPEG"
    )]
    PictureNeedsTooMuchMemory { width: u32, height: u32, needed: u64, limit: u64 },
    #[error(
        "the picture's metadata (colour profile, EXIF data, text) takes more than {limit} MiB: send the picture \
         without it"
    )]
    MetadataTooLarge { limit: u64 },
    #[error(
        "with this picture, the request exceeds its limit of {limit} megapixels for all pictures: send it in \
         another request"
    )]
    TooManyPixels { limit: u32 },
    #[error(
        "the annotated picture takes more than {limit} MiB as a PNG: ask for a JPEG, or send a smaller picture"
    )]
    AnnotatedPictureTooLarge { limit: usize },
    #[error("the request has {count} pictures; the limit is {limit}: send fewer at once")]
    TooManyPictures { count: usize, limit: usize },
    #[error("option `{name}` is {value:?}; it must be {expected}")]
    BadOption { name: String, value: String, expected: String },
    #[error("there is no option `{name}`{}", did_you_mean(suggestion))]
    UnknownOption { name: String, suggestion: Option<String> },
    #[error(
        "the model has no class {name:?}{}; GET /labels lists the classes",
        did_you_mean(suggestion)
    )]
    UnknownClass { name: String, suggestion: Option<String> },
    #[error("the body is incomplete: {reason}; send the request again")]
    IncompleteBody { reason: String },
    #[error("cannot read the form: {reason}")]
    BadForm { reason: String },
    #[error("cannot read the JSON: {reason}")]
    BadJson { reason: String },
    #[error("the picture is not valid base64: {reason}")]
    BadBase64 { reason: String },
    #[error("cannot read the message: {reason}")]
    BadMessage { reason: String },
    #[error("the message is compressed, which is not supported: send it as it is")]
    CompressedMessage,
    #[error("cannot read the tensor: {reason}")]
    BadTensor { reason: String },
    #[error("picture {number} of {count}: {error}")]
    InPicture { number: usize, count: usize, error: Box<Error> },
    #[error(
        "there is nothing at {path:?}; use POST /detect, or see the other paths in GET /openapi.json"
    )]
    NotFound { path: String },
    #[error("{method} is not allowed here; use {allow}")]
    MethodNotAllowed { method: String, allow: String },
    #[error("there is no model {name:?}; this component serves {served:?}")]
    UnknownModel { name: String, served: String },
    #[error("the model has no version {version:?}; leave the version out, or send 1")]
    UnknownVersion { version: String },
    #[error("this component contains no model: bake one into its core module with `spotter bake`")]
    NotBaked,
    #[error("the detector failed: {0}")]
    Internal(String),
}

impl Error {
    /// An error in a JSON body, with what to send instead. serde's message may repeat long texts of the client's.
    pub fn bad_json(error: &serde_json::Error, hint: &str) -> Self {
        const MAX_MESSAGE_CHARS: usize = 300;
        Self::BadJson { reason: truncated(&error.to_string(), MAX_MESSAGE_CHARS) + hint }
    }

    /// The stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyBody => "empty_body",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::UnsupportedMediaType { .. } => "unsupported_media_type",
            Self::NotAPicture { .. } => "not_a_picture",
            Self::TruncatedPicture { .. } => "truncated_picture",
            Self::PictureTooLarge { .. }
            | Self::PictureNeedsTooMuchMemory { .. }
            | Self::MetadataTooLarge { .. }
            | Self::TooManyPixels { .. }
            | Self::AnnotatedPictureTooLarge { .. } => "picture_too_large",
            Self::TooManyPictures { .. } => "too_many_pictures",
            Self::BadOption { .. } => "bad_option",
            Self::UnknownOption { .. } => "unknown_option",
            Self::UnknownClass { .. } => "unknown_class",
            // The host's code for a body that it receives itself.
            Self::IncompleteBody { .. } => "bad_request",
            Self::BadForm { .. } => "bad_form",
            Self::BadJson { .. } => "bad_json",
            Self::BadBase64 { .. } => "bad_base64",
            Self::BadMessage { .. } => "bad_message",
            Self::CompressedMessage => "compressed_message",
            Self::BadTensor { .. } => "bad_tensor",
            Self::InPicture { error, .. } => error.code(),
            Self::NotFound { .. } => "not_found",
            Self::UnknownModel { .. } | Self::UnknownVersion { .. } => "unknown_model",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::NotBaked => "not_baked",
            Self::Internal(_) => "internal",
        }
    }

    /// The HTTP status (RFC 9110).
    pub fn status(&self) -> u16 {
        match self {
            Self::EmptyBody
            | Self::TooManyPictures { .. }
            | Self::BadOption { .. }
            | Self::UnknownOption { .. }
            | Self::UnknownClass { .. }
            | Self::IncompleteBody { .. }
            | Self::BadForm { .. }
            | Self::BadJson { .. }
            | Self::BadBase64 { .. }
            | Self::BadMessage { .. }
            | Self::BadTensor { .. } => 400,
            Self::InPicture { error, .. } => error.status(),
            Self::NotFound { .. } | Self::UnknownModel { .. } | Self::UnknownVersion { .. } => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::BodyTooLarge { .. }
            | Self::PictureTooLarge { .. }
            | Self::PictureNeedsTooMuchMemory { .. }
            | Self::MetadataTooLarge { .. }
            | Self::TooManyPixels { .. }
            | Self::AnnotatedPictureTooLarge { .. } => 413,
            Self::UnsupportedMediaType { .. } | Self::CompressedMessage => 415,
            Self::NotAPicture { .. } | Self::TruncatedPicture { .. } => 422,
            Self::NotBaked | Self::Internal(_) => 500,
        }
    }

    /// The JSON body of the reply: `{"error":{"code","message"}}`.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { error: ErrorDetail { code: self.code(), message: self.to_string() } }
    }
}

/// The JSON shape of every error.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

/// The code and the message of an error.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorDetail {
    pub code: &'static str,
    pub message: String,
}

/// The candidate closest to `name`, if one is close enough to be a likely misspelling.
pub fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    // No valid name is longer, and the time of a comparison grows with the product of both lengths.
    const MAX_NAME_BYTES: usize = 64;
    candidates
        .filter(|_| name.len() <= MAX_NAME_BYTES)
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// A client's text for use in a message, truncated if it is long.
pub fn shortened(text: &str) -> String {
    const MAX_QUOTED_CHARS: usize = 80;
    truncated(text, MAX_QUOTED_CHARS)
}

fn truncated(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
