//! The Open Inference Protocol over gRPC, in frames of HTTP/2.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use spotter_tests::found::{self, Found};
use spotter_tests::pictures;
use spotter_tests::server::Server;

const MODEL: &str = "ssdlite_mobilenet_v2";

// What the tests need from `open_inference_grpc.proto` (kserve/open-inference-protocol), with its numbers.

#[derive(Clone, PartialEq, Message)]
struct Ready {
    #[prost(bool, tag = "1")]
    ready: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    versions: Vec<String>,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(message, repeated, tag = "4")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct InferRequest {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "4")]
    parameters: Vec<Parameter>,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "6")]
    outputs: Vec<Name>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw_input_contents: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct InferResponse {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw_output_contents: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(int32, repeated, tag = "2")]
    int_contents: Vec<i32>,
    #[prost(uint32, repeated, tag = "4")]
    uint_contents: Vec<u32>,
    #[prost(float, repeated, tag = "6")]
    fp32_contents: Vec<f32>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    bytes_contents: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
    #[prost(double, optional, tag = "4")]
    double: Option<f64>,
}

/// A reply: its HTTP status, its body and its trailers.
struct Reply {
    status: StatusCode,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Reply {
    fn code(&self) -> &str {
        self.trailers.get("grpc-status").map_or("", |code| code.to_str().expect("a code"))
    }

    fn error(&self) -> &str {
        self.trailers.get("grpc-message").map_or("", |text| text.to_str().expect("text"))
    }

    /// The message of a reply without an error.
    fn message<M: Message + Default>(&self) -> M {
        assert_eq!((self.status, self.code()), (StatusCode::OK, "0"), "{}", self.error());
        let (prefix, message) = self.body.split_at(5);
        let length = (message.len() as u32).to_be_bytes();
        assert_eq!(prefix, [&[0][..], &length].concat(), "the bytes before the message");
        M::decode(message).expect("a message")
    }
}

/// Sends a body to a method.
fn send(method: &str, content_type: &str, body: Vec<u8>) -> Reply {
    let server = Server::shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address()).await.expect("a connection");
        let (mut requests, connection) = h2::client::handshake(stream).await.expect("a handshake");
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::post(format!("http://test/inference.GRPCInferenceService/{method}"))
            .header("content-type", content_type)
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let (reply, mut sent) = requests.send_request(request, false).expect("a stream");
        sent.send_data(Bytes::from(body), true).expect("a body");
        let reply = reply.await.expect("a reply");
        let (status, mut content) = (reply.status(), reply.into_body());
        let mut body = Vec::new();
        while let Some(piece) = content.data().await {
            let piece = piece.expect("data");
            content.flow_control().release_capacity(piece.len()).expect("a window");
            body.extend_from_slice(&piece);
        }
        let trailers = content.trailers().await.expect("an end").unwrap_or_default();
        Reply { status, body, trailers }
    })
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn call(method: &str, message: &impl Message) -> Reply {
    send(method, "application/grpc", framed(&message.encode_to_vec()))
}

fn name(name: &str, version: &str) -> Name {
    Name { name: name.into(), version: version.into() }
}

/// A request with a tensor of this type and shape. `contents` is `None` if they are raw.
fn request(datatype: &str, shape: Vec<i64>, contents: Option<Contents>) -> InferRequest {
    let value = Value { double: Some(0.4), ..Value::default() };
    InferRequest {
        model_name: MODEL.into(),
        id: "7".into(),
        parameters: vec![Parameter { key: "min_confidence".into(), value: Some(value) }],
        inputs: vec![Tensor { name: "image".into(), datatype: datatype.into(), shape, contents }],
        ..InferRequest::default()
    }
}

/// A file as the only element of a BYTES tensor in raw form.
fn raw(file: &[u8]) -> Vec<u8> {
    [&(file.len() as u32).to_le_bytes(), file].concat()
}

fn typed(file: Vec<u8>) -> Option<Contents> {
    Some(Contents { bytes_contents: vec![file], ..Contents::default() })
}

#[test]
fn the_server_and_the_model_describe_themselves() {
    for method in ["ServerLive", "ServerReady"] {
        assert!(call(method, &()).message::<Ready>().ready, "{method}");
    }
    for (model, version, ready) in
        [(MODEL, "", true), (MODEL, "1", true), (MODEL, "2", false), ("unknown", "", false)]
    {
        let reply = call("ModelReady", &name(model, version));
        assert_eq!(reply.message::<Ready>().ready, ready, "{model} {version}");
    }
    assert_eq!(call("ServerMetadata", &()).message::<Name>().name, "spotter");
    let metadata: Metadata = call("ModelMetadata", &name(MODEL, "")).message();
    assert_eq!((metadata.name.as_str(), metadata.inputs[0].name.as_str()), (MODEL, "image"));
    let outputs: Vec<&str> = metadata.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(
        outputs,
        ["detection_boxes", "detection_scores", "detection_classes", "num_detections"]
    );
}

#[test]
fn model_infer_finds_what_detect_finds_raw_and_typed() {
    let picture = pictures::bytes("skimage_coffee.png");
    let ours = found::by_detect(&Server::shared().url(""), "min_confidence=0.4", &picture);
    assert!(!ours.is_empty());
    let mut as_raw = request("BYTES", vec![1], None);
    as_raw.raw_input_contents = vec![raw(&picture)];
    let reply = call("ModelInfer", &as_raw);
    let response: InferResponse = reply.message();
    assert_eq!((response.id.as_str(), response.model_version.as_str()), ("7", "1"));
    let (boxes, scores) = (floats(&response, 0), floats(&response, 1));
    assert_eq!(response.outputs[0].shape, [1, scores.len() as i64, 4]);
    assert_eq!(scores.len(), ours.len());

    let reply = call("ModelInfer", &request("BYTES", vec![1], typed(picture.clone())));
    let as_typed: InferResponse = reply.message();
    assert!(as_typed.raw_output_contents.is_empty(), "a reply is what its request is");
    let contents = |index: usize| as_typed.outputs[index].contents.clone().expect("contents");
    assert_eq!(contents(0).fp32_contents, boxes);
    assert_eq!(contents(3).int_contents, [ours.len() as i32]);
    assert_same(&ours, &boxes, &scores);

    let pixels = image::load_from_memory(&picture).expect("a picture").to_rgb8();
    let shape = vec![1, i64::from(pixels.height()), i64::from(pixels.width()), 3];
    let uint_contents = pixels.into_raw().into_iter().map(u32::from).collect();
    let contents = Contents { uint_contents, ..Contents::default() };
    let reply = call("ModelInfer", &request("UINT8", shape, Some(contents)));
    assert_eq!(reply.message::<InferResponse>().outputs[1].shape, [1, ours.len() as i64]);

    let mut one_output = request("BYTES", vec![1], typed(picture));
    one_output.outputs = vec![name("num_detections", "")];
    let response: InferResponse = call("ModelInfer", &one_output).message();
    assert_eq!(response.outputs.len(), 1);
}

#[test]
fn every_format_and_orientation_gets_what_detect_finds() {
    for (form, picture) in pictures::in_every_format_and_orientation() {
        println!("{form}");
        let ours = found::by_detect(&Server::shared().url(""), "min_confidence=0.4", &picture);
        let mut infer = request("BYTES", vec![1], None);
        infer.raw_input_contents = vec![raw(&picture)];
        let response: InferResponse = call("ModelInfer", &infer).message();
        let (boxes, scores) = (floats(&response, 0), floats(&response, 1));
        assert!(!ours.is_empty() && scores.len() == ours.len(), "{ours:?}");
        assert_same(&ours, &boxes, &scores);
    }
}

/// The numbers of a raw output.
fn floats(response: &InferResponse, index: usize) -> Vec<f32> {
    let raw = &response.raw_output_contents[index];
    raw.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn assert_same(ours: &[Found], boxes: &[f32], scores: &[f32]) {
    for (row, found) in ours.iter().enumerate() {
        assert!((f64::from(scores[row]) - found.confidence).abs() < 0.001, "{row}");
        for (corner, expected) in boxes[4 * row..4 * row + 4].iter().zip(found.corners) {
            assert!((f64::from(*corner) - expected).abs() < 0.1, "{row}");
        }
    }
}

#[test]
fn an_error_is_a_status_in_the_trailers() {
    let no_picture = || request("BYTES", vec![1], typed(b"text".to_vec()));
    let unknown = InferRequest { model_name: "unknown".into(), ..no_picture() };
    let version = InferRequest { model_version: "2".into(), ..no_picture() };
    let option = Value { text: Some("2".into()), ..Value::default() };
    let option = Parameter { key: "min_confidence".into(), value: Some(option) };
    let bad_option = InferRequest { parameters: vec![option], ..no_picture() };
    let many = Contents { bytes_contents: vec![Vec::new(); 100_000], ..Contents::default() };
    let inputs = InferRequest { inputs: vec![Tensor::default(); 100_000], ..no_picture() };
    let cases = [
        ("ModelInfer", framed(&no_picture().encode_to_vec()), "3", "not a picture"),
        ("ModelInfer", framed(&unknown.encode_to_vec()), "5", "no model \"unknown\""),
        ("ModelInfer", framed(&version.encode_to_vec()), "5", "no version \"2\""),
        ("ModelInfer", framed(&bad_option.encode_to_vec()), "3", "min_confidence"),
        (
            "ModelInfer",
            framed(&request("BYTES", vec![1], Some(many)).encode_to_vec()),
            "3",
            "`bytes_contents` is too long",
        ),
        ("ModelInfer", framed(&inputs.encode_to_vec()), "3", "`inputs` is too long"),
        (
            "ModelInfer",
            framed(&request("FP32", vec![1], typed(vec![0])).encode_to_vec()),
            "3",
            "FP32",
        ),
        ("ModelInfer", framed(&request("BYTES", vec![1], None).encode_to_vec()), "3", "neither"),
        (
            "ModelInfer",
            framed(
                &InferRequest { model_name: MODEL.into(), ..Default::default() }.encode_to_vec(),
            ),
            "3",
            "neither",
        ),
        ("ModelInfer", framed(b"\xff\xff"), "3", "cannot read the message"),
        ("ModelInfer", b"\0\0\0\0\x09ab".to_vec(), "3", "send exactly one message"),
        ("ModelInfer", b"\x01\0\0\0\x02ab".to_vec(), "12", "compressed"),
        ("ModelInfer", Vec::new(), "3", "shorter than"),
        ("ModelMetadata", framed(&name("unknown", "").encode_to_vec()), "5", "no model"),
        ("RepositoryIndex", framed(b""), "12", "there is nothing at"),
    ];
    for (method, body, code, words) in cases {
        let reply = send(method, "application/grpc", body);
        assert_eq!(reply.status, StatusCode::OK, "{words}");
        assert_eq!(reply.code(), code, "{words}: {}", reply.error());
        assert!(reply.error().contains(words), "{} lacks {words}", reply.error());
        assert!(reply.body.is_empty(), "{words}");
    }
    let json = send("ServerLive", "application/json", b"{}".to_vec());
    assert_eq!(json.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
