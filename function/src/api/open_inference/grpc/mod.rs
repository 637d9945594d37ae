//! The Open Inference Protocol, version 2, over gRPC: the service `inference.GRPCInferenceService`.
//!
//! Sources: `open_inference_grpc.proto` of kserve/open-inference-protocol; `PROTOCOL-HTTP2.md` of grpc/grpc.

mod infer;
mod limits;
mod messages;

use prost::Message;
use prost::bytes::Bytes;

use super::{INPUT_TENSOR_NAME, PLATFORM_NAME, SERVER_NAME, tensors};
use crate::api::open_inference::tensors::MODEL_VERSION;
use crate::api::{Reply, Request, check_model};
use crate::error::{Error, shortened};
use crate::model::Model;
use messages::{
    Empty, ModelMetadata, ModelName, Ready, ServerMetadata, TensorMetadata as TensorMessage,
};

pub(in crate::api) use infer::infer;

/// Before each message: whether it is compressed (1 byte), and its length (4 bytes, big-endian).
const PREFIX_BYTES: usize = 5;

/// Status codes (<https://grpc.io/docs/guides/status-codes/>).
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const NOT_FOUND: u32 = 5;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const INTERNAL: u32 = 13;
}

/// `ServerLive` and `ServerReady`, whose replies are encoded alike.
pub(in crate::api) fn live(_: &Model, request: &Request) -> Result<Reply, Error> {
    let Empty {} = decode(message(request)?)?;
    Ok(reply(&Ready { ready: true }))
}

/// `ModelReady`: a model that does not exist is not ready, which is not an error.
pub(in crate::api) fn model_ready(model: &Model, request: &Request) -> Result<Reply, Error> {
    let name: ModelName = decode(message(request)?)?;
    Ok(reply(&Ready { ready: check_name(&name.name, &name.version, model).is_ok() }))
}

/// `ServerMetadata`.
pub(in crate::api) fn server(_: &Model, request: &Request) -> Result<Reply, Error> {
    let Empty {} = decode(message(request)?)?;
    Ok(reply(&ServerMetadata {
        name: SERVER_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: Vec::new(),
    }))
}

/// `ModelMetadata`.
pub(in crate::api) fn metadata(model: &Model, request: &Request) -> Result<Reply, Error> {
    let ModelName { name, version } = decode(message(request)?)?;
    check_name(&name, &version, model)?;
    let tensor = |name: &str, datatype: &str, shape: &[i8]| TensorMessage {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.iter().map(|length| i64::from(*length)).collect(),
    };
    Ok(reply(&ModelMetadata {
        name,
        versions: vec![MODEL_VERSION.to_owned()],
        platform: PLATFORM_NAME.to_owned(),
        inputs: vec![tensor(INPUT_TENSOR_NAME, "BYTES", &[-1])],
        outputs: tensors::OUTPUT_METADATA
            .iter()
            .map(|output| tensor(output.name, output.datatype, output.shape))
            .collect(),
    }))
}

/// The reply to an error. Its HTTP status is 200, unless the request is not gRPC at all.
pub(in crate::api) fn error(error: &Error) -> Reply {
    if matches!(error, Error::MethodNotAllowed { .. } | Error::UnsupportedMediaType { .. }) {
        return Reply::error(error);
    }
    with_status(Vec::new(), status_code(error))
        .with_trailer("grpc-message", escaped(&error.to_string()))
}

fn status_code(error: &Error) -> u32 {
    match (error, error.status()) {
        (Error::InPicture { error, .. }, _) => status_code(error),
        (Error::NotFound { .. } | Error::CompressedMessage, _) => code::UNIMPLEMENTED,
        (_, 404) => code::NOT_FOUND,
        (_, 413) => code::RESOURCE_EXHAUSTED,
        (_, 500) => code::INTERNAL,
        _ => code::INVALID_ARGUMENT,
    }
}

/// A message for a trailer: percent-encoded, except for printable ASCII.
fn escaped(message: &str) -> String {
    const ESCAPED_CHARACTERS: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    percent_encoding::utf8_percent_encode(message, ESCAPED_CHARACTERS).to_string()
}

/// Checks the model's name and version. Without a version, the server chooses.
fn check_name(name: &str, version: &str, model: &Model) -> Result<(), Error> {
    check_model(name, model)?;
    if version.is_empty() || version == MODEL_VERSION {
        return Ok(());
    }
    Err(Error::UnknownVersion { version: shortened(version) })
}

/// The only message of a request.
fn message(request: &Request) -> Result<Bytes, Error> {
    if !request.has_media_type("application/grpc") {
        let content_type = shortened(request.content_type.unwrap_or_default());
        return Err(Error::UnsupportedMediaType {
            content_type,
            expected: "application/grpc".into(),
        });
    }
    let bad = |reason: &str| Error::BadMessage { reason: reason.to_owned() };
    let (prefix, message) = request
        .body
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or_else(|| bad("it is shorter than the 5-byte prefix of a message"))?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(Error::CompressedMessage);
    }
    if usize::try_from(u32::from_be_bytes(length)).ok() != Some(message.len()) {
        return Err(bad("its length differs from the one in its prefix; send exactly one message"));
    }
    Ok(Bytes::copy_from_slice(message))
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Error> {
    M::decode(message).map_err(|error| Error::BadMessage { reason: error.to_string() })
}

fn reply(message: &impl Message) -> Reply {
    let mut body = vec![0; PREFIX_BYTES];
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    body[1..].copy_from_slice(&length.to_be_bytes());
    body.extend(message.encode_to_vec());
    with_status(body, code::OK)
}

fn with_status(body: Vec<u8>, code: u32) -> Reply {
    Reply::new(200, "application/grpc", body).with_trailer("grpc-status", code.to_string())
}

#[cfg(test)]
mod tests {
    use super::{error, escaped, message};
    use crate::api::Request;
    use crate::error::Error;

    fn message_in(body: &[u8]) -> Result<prost::bytes::Bytes, Error> {
        let content_type = Some("application/grpc");
        message(&Request { content_type, body, ..Request::default() })
    }

    #[test]
    fn a_request_is_one_message_that_is_not_compressed() {
        assert_eq!(message_in(b"\0\0\0\0\x02ab").unwrap().as_ref(), b"ab");
        for body in [b"".as_slice(), b"\0\0\0\0", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab"] {
            assert!(matches!(message_in(body), Err(Error::BadMessage { .. })), "{body:?}");
        }
        assert!(matches!(message_in(b"\x01\0\0\0\x02ab"), Err(Error::CompressedMessage)));
        let json = Request { content_type: Some("application/json"), ..Request::default() };
        assert!(matches!(message(&json), Err(Error::UnsupportedMediaType { .. })));
    }

    #[test]
    fn an_error_is_a_status_in_the_trailers() {
        let reply = error(&Error::UnknownModel { name: "é".into(), served: "m".into() });
        assert_eq!((reply.status, reply.body.len()), (200, 0));
        assert_eq!(reply.trailers[0], ("grpc-status", "5".to_owned()));
        assert!(reply.trailers[1].1.contains("%C3%A9"), "{:?}", reply.trailers);
        assert_eq!(escaped("100 %\n"), "100 %25%0A");
    }
}
