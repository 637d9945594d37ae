//! Hugging Face's object detection task.

use base64::Engine;
use serde_json::{Value, json};
use spotter_tests::client::{self, Reply};
use spotter_tests::found::{self, Found};
use spotter_tests::pictures;
use spotter_tests::server::Server;

fn url(path: &str) -> String {
    Server::shared().url(path)
}

fn of(reply: &Reply) -> Vec<Found> {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    found::of_list(&reply.json(), |entry| {
        let corners = ["xmin", "ymin", "xmax", "ymax"].map(|name| &entry["box"][name]);
        assert!(corners.iter().all(|corner| corner.is_u64()), "{entry}");
        (&entry["label"], &entry["score"], corners)
    })
}

fn with_threshold(picture: &[u8], threshold: Value) -> Value {
    let inputs = base64::engine::general_purpose::STANDARD.encode(picture);
    json!({"inputs": inputs, "parameters": {"threshold": threshold}})
}

#[test]
fn a_picture_and_base64_with_a_threshold_get_what_detect_finds() {
    let picture = pictures::bytes("skimage_coffee.png");
    let expected = found::by_detect(&url(""), "min_confidence=0.5", &picture);
    let low = found::by_detect(&url(""), "min_confidence=0.2", &picture);
    for path in ["/", "/models/ssdlite_mobilenet_v2"] {
        found::assert_same(&expected, &of(&client::post_picture(&url(path), &picture)));
        found::assert_same(&expected, &of(&client::send("POST", &url(path), &[], &picture)));
        let body = with_threshold(&picture, json!(0.2));
        found::assert_same(&low, &of(&client::post_json(&url(path), &body)));
        let body = with_threshold(&picture, Value::Null);
        found::assert_same(&expected, &of(&client::post_json(&url(path), &body)));
    }
}

#[test]
fn errors_are_a_text() {
    let assert_failed = |reply: Reply, status: u16, words: &str| {
        let body = reply.json();
        assert_eq!(reply.status, status, "{body}");
        assert!(body["error"].as_str().is_some_and(|error| error.contains(words)), "{body}");
    };
    let picture = pictures::bytes("skimage_chelsea.png");
    let text = b"not a picture at all, but long enough to be one";
    assert_failed(client::post_picture(&url("/"), text), 422, "not a picture");
    assert_failed(client::post_picture(&url("/"), b""), 400, "empty");
    assert_failed(client::post_json(&url("/"), &json!({})), 400, "inputs");
    assert_failed(client::post_json(&url("/"), &json!({"inputs": "***"})), 400, "base64");
    let body = with_threshold(&picture, json!(1.5));
    assert_failed(client::post_json(&url("/"), &body), 400, "`threshold` is \"1.5\"");
    let other = url("/models/facebook%2Fdetr-resnet-50");
    assert_failed(client::post_picture(&other, &picture), 404, "\"facebook/detr-resnet-50\"");
    assert_failed(client::get(&url("/models/ssdlite_mobilenet_v2")), 405, "POST");
}

#[test]
fn every_format_and_orientation_gets_what_detect_finds() {
    for (name, picture) in pictures::in_every_format_and_orientation() {
        println!("{name}");
        let expected = found::by_detect(&url(""), "min_confidence=0.5", &picture);
        found::assert_same(&expected, &of(&client::post_picture(&url("/"), &picture)));
    }
}
