//! The API of DeepStack and CodeProject.AI.

use serde_json::{Value, json};
use spotter_tests::client::{self, Reply};
use spotter_tests::found::{self, Found};
use spotter_tests::pictures;
use spotter_tests::server::Server;

const QUERY: &str = "min_confidence=0.4";

fn url(path: &str) -> String {
    Server::shared().url(path)
}

fn of(reply: &Reply) -> Vec<Found> {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    found::of_list(&reply.json()["predictions"], |entry| {
        let corners = ["x_min", "y_min", "x_max", "y_max"].map(|name| &entry[name]);
        (&entry["label"], &entry["confidence"], corners)
    })
}

#[test]
fn frigates_request_gets_what_detect_finds_in_whole_pixels_sorted_by_confidence() {
    // As `frigate/detectors/plugins/deepstack.py` sends it.
    let picture = pictures::photograph();
    let reply = client::post_form(
        &url("/v1/vision/detection"),
        &[("api_key", None, b""), ("image", Some("image"), &picture)],
    );
    let found = of(&reply);
    found::assert_same(&found::by_detect(&url(""), QUERY, &picture), &found);
    assert!(found.is_sorted_by(|a, b| a.confidence >= b.confidence), "{found:?}");
    let reply = reply.json();
    assert_eq!((&reply["success"], &reply["count"]), (&json!(true), &json!(found.len())));
    assert_eq!((&reply["command"], &reply["code"]), (&json!("detect"), &json!(200)));
    for time in ["inferenceMs", "processMs", "analysisRoundTripMs"] {
        assert!(reply[time].is_u64(), "{time}: {reply}");
    }
    for prediction in reply["predictions"].as_array().unwrap() {
        let keys: Vec<&String> = prediction.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["label", "confidence", "x_min", "y_min", "x_max", "y_max"]);
        assert!(keys[2..].iter().all(|key| prediction[key.as_str()].is_u64()), "{prediction}");
    }
    assert!(reply["message"].as_str().unwrap().starts_with("Found person"), "{reply}");
}

#[test]
fn min_confidence_and_the_querys_options_choose_the_objects() {
    let picture = pictures::bytes("skimage_coffee.png");
    let low = client::post_form(
        &url("/v1/vision/detection?max_detections=3&classes=cup,bowl,spoon"),
        &[("min_confidence", None, b"0.05"), ("image", Some("a.png"), &picture)],
    );
    let query = "min_confidence=0.05&max_detections=3&classes=cup,bowl,spoon";
    found::assert_same(&found::by_detect(&url(""), query, &picture), &of(&low));
    let none = client::post_form(
        &url("/v1/vision/detection"),
        &[("min_confidence", None, b"0.999"), ("image", Some("a.png"), &picture)],
    );
    assert_eq!((of(&none).len(), &none.json()["message"]), (0, &json!("No objects found")));
}

#[test]
fn the_model_is_listed_and_detects_under_its_name() {
    for method in ["GET", "POST"] {
        let list = client::send(method, &url("/v1/vision/custom/list"), &[], b"").json();
        assert_eq!(list["models"], json!(["ssdlite_mobilenet_v2"]));
        assert_eq!(list["success"], true);
    }
    let picture = pictures::bytes("skimage_chelsea.png");
    let parts: [(&str, Option<&str>, &[u8]); 1] = [("image", Some("cat.png"), &picture)];
    let found = client::post_form(&url("/v1/vision/custom/ssdlite_mobilenet_v2"), &parts);
    assert_eq!(found.json()["command"], "custom");
    found::assert_same(&found::by_detect(&url(""), QUERY, &picture), &of(&found));
    assert_failed(&client::post_form(&url("/v1/vision/custom/yolo"), &parts), 404, "\"yolo\"");
}

fn assert_failed(reply: &Reply, status: u16, words: &str) {
    let body = reply.json();
    assert_eq!(reply.status, status, "{body}");
    assert_eq!((&body["success"], &body["code"]), (&json!(false), &json!(status)), "{body}");
    assert!(body["error"].as_str().is_some_and(|error| error.contains(words)), "{body}");
    let keys: Vec<&String> = body.as_object().map(|body| body.keys().collect()).unwrap_or_default();
    assert_eq!(keys, ["success", "error", "code"], "{}", Value::clone(&body));
}

#[test]
fn errors_have_deepstacks_shape() {
    let detection = url("/v1/vision/detection");
    let picture = pictures::bytes("skimage_chelsea.png");
    let post = |parts: &[(&str, Option<&str>, &[u8])]| client::post_form(&detection, parts);
    let text: &[u8] = b"not a picture at all, but long enough to be one";
    assert_failed(&post(&[("image", Some("a"), text)]), 400, "not a picture");
    assert_failed(&post(&[("min_confidence", None, b"0.4")]), 400, "`image`");
    let two = [("image", Some("a"), picture.as_slice()), ("image", Some("b"), &picture)];
    assert_failed(&post(&two), 400, "2 pictures");
    let bad = [("min_confidence", None, b"high".as_slice()), ("image", Some("a"), &picture)];
    assert_failed(&post(&bad), 400, "\"high\"");
    assert_failed(&client::get(&detection), 405, "POST");
    assert_eq!(client::get(&detection).header("allow"), "POST");
    assert_failed(&client::get(&url("/v1/vision/face")), 404, "/v1/vision/face");
}

#[test]
fn every_format_and_orientation_gets_what_detect_finds() {
    for (name, picture) in pictures::in_every_format_and_orientation() {
        println!("{name}");
        let expected = found::by_detect(&url(""), QUERY, &picture);
        found::assert_same(
            &expected,
            &of(&client::post_form(
                &url("/v1/vision/detection"),
                &[("image", Some("image"), &picture)],
            )),
        );
    }
}
