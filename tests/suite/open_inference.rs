//! The Open Inference Protocol, version 2.

use base64::Engine;
use serde_json::{Value, json};
use spotter_tests::client::{self, Reply};
use spotter_tests::found::{self, Found};
use spotter_tests::pictures;
use spotter_tests::server::Server;

const MODEL: &str = "/v2/models/ssdlite_mobilenet_v2";
const QUERY: &str = "min_confidence=0.4";

fn url(path: &str) -> String {
    Server::shared().url(path)
}

fn infer(body: &Value) -> Reply {
    client::post_json(&url(&format!("{MODEL}/infer")), body)
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn request(pictures: &[&[u8]]) -> Value {
    let data: Vec<String> = pictures.iter().map(|picture| base64(picture)).collect();
    json!({"inputs": [{"name": "image", "shape": [data.len()], "datatype": "BYTES", "data": data}]})
}

/// A request whose input follows the JSON as binary data.
fn infer_binary(json: &Value, binary: &[u8]) -> Reply {
    let json = json.to_string();
    let length = json.len().to_string();
    let headers = [
        ("content-type", "application/octet-stream"),
        ("inference-header-content-length", length.as_str()),
    ];
    client::send(
        "POST",
        &url(&format!("{MODEL}/infer")),
        &headers,
        &[json.as_bytes(), binary].concat(),
    )
}

/// The JSON of a reply, and its outputs' numbers by name, wherever they are.
struct Outputs {
    json: Value,
    numbers: Vec<(String, Vec<f64>)>,
}

impl Outputs {
    fn of(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        let header = reply.header("inference-header-content-length");
        let length = header.parse().unwrap_or(reply.body.len());
        let (json, mut binary) = reply.body.split_at(length);
        let json: Value = serde_json::from_slice(json).expect("JSON");
        let mut numbers = Vec::new();
        for output in json["outputs"].as_array().expect("outputs") {
            let values: Vec<f64> = match output["parameters"]["binary_data_size"].as_u64() {
                None => {
                    output["data"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect()
                }
                Some(size) => {
                    let (own, rest) = binary.split_at(size as usize);
                    binary = rest;
                    let is_float = output["datatype"] == "FP32";
                    let words = own.chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).unwrap());
                    words
                        .map(|word| {
                            if is_float {
                                f64::from(f32::from_le_bytes(word))
                            } else {
                                f64::from(i32::from_le_bytes(word))
                            }
                        })
                        .collect()
                }
            };
            let shape: u64 = output["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|side| side.as_u64().unwrap())
                .product();
            assert_eq!(shape, values.len() as u64, "{output}");
            numbers.push((output["name"].as_str().unwrap().to_owned(), values));
        }
        assert!(binary.is_empty(), "{} bytes are left", binary.len());
        Self { json, numbers }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.numbers.iter().find(|(found, _)| found == name).expect("an output").1
    }

    /// What was found in each picture.
    fn found(&self) -> Vec<Vec<Found>> {
        let labels = client::get(&url("/labels")).json();
        let counts = self.get("num_detections");
        let width = self.get("detection_scores").len() / counts.len();
        let (boxes, classes) = (self.get("detection_boxes"), self.get("detection_classes"));
        let one = |row: usize| {
            let is_class = |label: &&Value| label["class_id"].as_f64() == Some(classes[row]);
            let label = labels["labels"].as_array().unwrap().iter().find(is_class).unwrap();
            Found {
                label: label["label"].as_str().unwrap().to_owned(),
                confidence: self.get("detection_scores")[row],
                corners: boxes[row * 4..][..4].try_into().unwrap(),
            }
        };
        let of_picture = |(index, count): (usize, &f64)| {
            let rest = index * width + *count as usize..(index + 1) * width;
            assert!(classes[rest].iter().all(|class| *class == -1.0), "{}", self.json);
            (0..*count as usize).map(|row| one(index * width + row)).collect()
        };
        counts.iter().enumerate().map(of_picture).collect()
    }
}

#[test]
fn the_server_and_the_model_are_described() {
    let server = client::get(&url("/v2")).json();
    assert_eq!(server["name"], "spotter");
    assert_eq!(server["extensions"], json!(["binary_tensor_data"]));
    assert_eq!(client::get(&url("/v2/health/live")).json(), json!({"live": true}));
    assert_eq!(client::get(&url("/v2/health/ready")).json(), json!({"ready": true}));
    for version in ["", "/versions/1"] {
        let model = client::get(&url(&format!("{MODEL}{version}"))).json();
        assert_eq!(model["name"], "ssdlite_mobilenet_v2");
        assert_eq!(model["inputs"], json!([{"name": "image", "datatype": "BYTES", "shape": [-1]}]));
        assert_eq!(model["outputs"][0]["shape"], json!([-1, -1, 4]));
        let ready = client::get(&url(&format!("{MODEL}{version}/ready"))).json();
        assert_eq!(ready, json!({"name": "ssdlite_mobilenet_v2", "ready": true}));
    }
}

#[test]
fn a_batch_of_base64_pictures_gets_what_detect_finds_padded_to_one_shape() {
    let (crowd, cat) =
        (pictures::bytes("mosaic_people.jpg"), pictures::bytes("skimage_chelsea.png"));
    let mut body = request(&[&crowd, &cat]);
    body["id"] = "42".into();
    let outputs = Outputs::of(&infer(&body));
    assert_eq!(outputs.json["id"], "42");
    assert_eq!(outputs.json["model_name"], "ssdlite_mobilenet_v2");
    let found = outputs.found();
    assert!(found[0].len() > found[1].len(), "{found:?}");
    for (picture, found) in [crowd, cat].iter().zip(&found) {
        found::assert_same(&found::by_detect(&url(""), QUERY, picture), found);
    }
}

#[test]
fn binary_data_goes_both_ways() {
    let picture = pictures::bytes("skimage_coffee.png");
    let mut element = u32::try_from(picture.len()).unwrap().to_le_bytes().to_vec();
    element.extend_from_slice(&picture);
    let input = json!({"name": "image", "shape": [1], "datatype": "BYTES",
        "parameters": {"binary_data_size": element.len()}});
    let parameters = json!({"binary_data_output": true, "threshold": 0.1, "priority": 3});
    let reply = infer_binary(&json!({"inputs": [input], "parameters": parameters}), &element);
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    let expected = found::by_detect(&url(""), "min_confidence=0.1", &picture);
    found::assert_same(&expected, &Outputs::of(&reply).found()[0]);
    // An output that says so itself is JSON, and the others are left out.
    let named = json!([{"name": "num_detections", "parameters": {"binary_data": false}}]);
    let mut body = json!({"inputs": [input], "parameters": parameters});
    body["outputs"] = named;
    let outputs = Outputs::of(&infer_binary(&body, &element));
    assert_eq!(outputs.numbers, [("num_detections".to_owned(), vec![expected.len() as f64])]);
}

#[test]
fn tensors_of_pixels_get_what_their_picture_gets() {
    let cat = pictures::cat();
    let (width, height) = cat.dimensions();
    let png = pictures::bytes("skimage_chelsea.png");
    let expected = found::by_detect(&url(""), QUERY, &png);
    let input = json!({"name": "image", "shape": [2, height, width, 3], "datatype": "UINT8",
        "parameters": {"binary_data_size": cat.len() * 2}});
    let outputs = Outputs::of(&infer_binary(
        &json!({"inputs": [input]}),
        &[cat.as_raw().as_slice(); 2].concat(),
    ));
    for found in outputs.found() {
        found::assert_same(&expected, &found);
    }
    let nested: Vec<Vec<&[u8]>> =
        cat.chunks_exact(width as usize * 3).map(|row| row.chunks_exact(3).collect()).collect();
    let outputs = Outputs::of(&infer(&json!({"inputs": [
        {"name": "image", "shape": [1, height, width, 3], "datatype": "UINT8", "data": [nested]},
    ]})));
    found::assert_same(&expected, &outputs.found()[0]);
}

fn assert_failed(reply: &Reply, status: u16, words: &str) {
    let body = reply.json();
    assert_eq!(reply.status, status, "{body}");
    assert!(body["error"].as_str().is_some_and(|error| error.contains(words)), "{body}: {words}");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
}

#[test]
fn errors_have_the_protocols_shape_and_say_what_is_wrong() {
    let tensor = |fields: Value| {
        let mut input =
            json!({"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]});
        for (name, value) in fields.as_object().unwrap() {
            input[name] = value.clone();
        }
        json!({"inputs": [input]})
    };
    let pixels = |shape: Value, data: Value| {
        tensor(json!({"datatype": "UINT8", "shape": shape, "data": data}))
    };
    let cases = [
        (json!([]), 400, "cannot read the JSON"),
        (json!({}), 400, "inputs"),
        (json!({"inputs": []}), 400, "no input"),
        (json!({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES"}]}), 400, "neither"),
        (tensor(json!({"name": "pixels"})), 400, "\"pixels\""),
        (tensor(json!({"datatype": "FP32", "data": [1]})), 400, "\"FP32\""),
        (tensor(json!({"data": [7]})), 400, "base64 strings"),
        (tensor(json!({"data": ["***"]})), 400, "base64"),
        (tensor(json!({"shape": [2]})), 400, "its shape is [2]"),
        (tensor(json!({"shape": [17]})), 400, "17 pictures"),
        (tensor(json!({"shape": [1, 1, 1, 1, 1, 1, 1, 1, 1]})), 400, "at most 8"),
        (tensor(json!({})), 422, "not a picture"),
        (pixels(json!([1, 1, 1, 3]), json!([0, 0, 256])), 400, "0 to 255"),
        (pixels(json!([1, 1, 1, 3]), json!([0, 0])), 400, "[pictures, height, width, 3]"),
        (pixels(json!([1, 0, 1, 3]), json!([])), 400, "[pictures, height, width, 3]"),
        (pixels(json!([1, 1, 9000, 3]), json!(vec![0; 27_000])), 413, "9000x1"),
        (pixels(json!([1, u64::MAX, 2, 3]), json!([0])), 400, "18446744073709551615"),
        (pixels(json!([1, u32::MAX, 2, 3]), json!([0])), 400, "[pictures, height, width, 3]"),
    ];
    for (body, status, words) in cases {
        assert_failed(&infer(&body), status, words);
    }
    let mut output = request(&[&pictures::bytes("skimage_chelsea.png")]);
    output["outputs"] = json!([{"name": "masks"}]);
    assert_failed(&infer(&output), 400, "\"masks\"");
    let batch =
        request(&[&pictures::bytes("skimage_chelsea.png"), b"text that is no picture at all"]);
    assert_failed(&infer(&batch), 422, "picture 2 of 2");
    let input = json!({"name": "image", "shape": [1], "datatype": "BYTES",
        "parameters": {"binary_data_size": 8}});
    assert_failed(&infer_binary(&json!({"inputs": [input]}), b"1234567"), 400, "7 bytes");
    assert_failed(
        &infer_binary(&json!({"inputs": [input]}), b"\xff\xff\xff\xff1234"),
        400,
        "its length",
    );
    let headers = [("inference-header-content-length", "99999")];
    let reply = client::send("POST", &url(&format!("{MODEL}/infer")), &headers, b"{}");
    assert_failed(&reply, 400, "\"99999\"");
    assert_failed(&client::get(&url("/v2/models/resnet")), 404, "\"resnet\"");
    assert_failed(&client::get(&url(&format!("{MODEL}/versions/2"))), 404, "\"2\"");
    assert_failed(&client::get(&url("/v2/nothing")), 404, "/v2/nothing");
    assert_failed(&client::get(&url(&format!("{MODEL}/infer"))), 405, "POST");
}

#[test]
fn every_format_and_orientation_gets_what_detect_finds() {
    for (name, picture) in pictures::in_every_format_and_orientation() {
        println!("{name}");
        let expected = found::by_detect(&url(""), QUERY, &picture);
        found::assert_same(&expected, &Outputs::of(&infer(&request(&[&picture]))).found()[0]);
    }
}
