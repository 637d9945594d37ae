//! The API of Roboflow Inference.

use base64::Engine;
use serde_json::{Value, json};
use spotter_tests::client::{self, Reply};
use spotter_tests::found::{self, Found};
use spotter_tests::pictures;
use spotter_tests::server::Server;

/// Roboflow's defaults.
const QUERY: &str = "min_confidence=0.4&iou_threshold=0.3&max_detections=300";

fn url(path: &str) -> String {
    Server::shared().url(path)
}

fn infer(fields: Value) -> Reply {
    // As `inference-sdk` sends it.
    let mut body = json!({
        "api_key": "secret", "model_id": "ssdlite_mobilenet_v2", "visualize_predictions": false,
        "disable_active_learning": false,
    });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    client::post_json(&url("/infer/object_detection?countinference=false"), &body)
}

fn image(picture: &[u8]) -> Value {
    let value = base64::engine::general_purpose::STANDARD.encode(picture);
    json!({"type": "base64", "value": value})
}

fn of(report: &Value) -> Vec<Found> {
    let predictions = report["predictions"].as_array().unwrap_or_else(|| panic!("{report}"));
    predictions
        .iter()
        .map(|entry| {
            let number = |name: &str| entry[name].as_f64().unwrap_or_else(|| panic!("{entry}"));
            let (x, y, width, height) =
                (number("x"), number("y"), number("width"), number("height"));
            Found {
                label: entry["class"].as_str().unwrap().to_owned(),
                confidence: number("confidence"),
                corners: [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0],
            }
        })
        .collect()
}

#[test]
fn one_picture_and_a_list_get_what_detect_finds_as_centres_and_sizes() {
    let (coffee, cat) =
        (pictures::bytes("skimage_coffee.png"), pictures::bytes("skimage_chelsea.png"));
    let one = infer(json!({"image": image(&cat)})).json();
    assert_eq!(one["image"], json!({"width": 451, "height": 300}));
    assert!(one["time"].as_f64().is_some_and(|seconds| seconds < 60.0), "{one}");
    assert_eq!(one["predictions"][0]["class_id"], 17);
    found::assert_same(&found::by_detect(&url(""), QUERY, &cat), &of(&one));
    let list = infer(json!({"image": [image(&coffee), image(&cat)]})).json();
    for (picture, report) in [&coffee, &cat].into_iter().zip(list.as_array().unwrap()) {
        found::assert_same(&found::by_detect(&url(""), QUERY, picture), &of(report));
    }
    // Each request has a fresh instance, whose state is that of the snapshot.
    let again = infer(json!({"image": image(&cat)})).json();
    let ids = [&one, &again, &list[0], &list[1]].map(|it| it["inference_id"].as_str().unwrap());
    let different: std::collections::BTreeSet<&str> = ids.into_iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
    assert_eq!(ids[0].len(), 36, "{ids:?}");
}

#[test]
fn options_have_roboflows_names() {
    let coffee = pictures::bytes("skimage_coffee.png");
    let reply = infer(json!({"image": image(&coffee), "confidence": 0.05, "iou_threshold": 0.5,
        "max_detections": 4, "class_filter": ["cup", "bowl"]}));
    let query = "min_confidence=0.05&iou_threshold=0.5&max_detections=4&classes=cup,bowl";
    found::assert_same(&found::by_detect(&url(""), query, &coffee), &of(&reply.json()));
    let drawn = infer(json!({"image": image(&coffee), "visualize_predictions": true})).json();
    let picture = drawn["visualization"].as_str().expect("a picture");
    let picture = base64::engine::general_purpose::STANDARD.decode(picture).expect("base64");
    let picture = image::load_from_memory(&picture).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (600, 400));
}

#[test]
fn a_list_has_a_limit_on_pixels_which_is_lower_for_annotated_pictures() {
    // Each has 9 megapixels: eleven are within the limit of 100, two within that of 25.
    let large = image(&pictures::jpeg(&image::RgbImage::new(3000, 3000)));
    for (count, visualize, first_refused) in [(12, false, 12), (4, true, 3)] {
        let images = vec![&large; count];
        let reply = infer(json!({"image": images, "visualize_predictions": visualize}));
        assert_eq!(reply.status, 413);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        let expected = format!("picture {first_refused} of {count}: with this picture");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn the_registry_holds_the_model_and_no_other_can_be_added() {
    let registry = client::get(&url("/model/registry?api_key=None"));
    assert_eq!(registry.json()["models"][0]["model_id"], "ssdlite_mobilenet_v2");
    assert_eq!(registry.json()["models"][0]["task_type"], "object-detection");
    let added = client::post_json(&url("/model/add"), &json!({"model_id": "ssdlite_mobilenet_v2"}));
    assert_eq!(added.json(), registry.json());
    let other = client::post_json(&url("/model/add"), &json!({"model_id": "coco/3"}));
    assert_eq!(other.status, 404);
    assert!(other.json()["message"].as_str().unwrap().contains("\"coco/3\""), "{}", other.json());
}

#[test]
fn errors_are_a_message() {
    let cat = image(&pictures::bytes("skimage_chelsea.png"));
    for (fields, status, words) in [
        (json!({}), 400, "image"),
        (json!({"image": []}), 400, "1 to 16"),
        (json!({"image": "text"}), 400, "base64"),
        (json!({"image": {"type": "url", "value": "http://localhost/"}}), 400, "\"url\""),
        (json!({"image": {"type": "base64", "value": "AAAA"}}), 422, "not a picture"),
        (json!({"image": cat, "model_id": "coco/3"}), 404, "\"coco/3\""),
        (json!({"image": cat, "confidence": 2}), 400, "\"2\""),
        (json!({"image": cat, "class_filter": ["dgo"]}), 400, "`dog`"),
        (json!({"image": cat, "class_agnostic_nms": true}), 400, "class_agnostic_nms"),
    ] {
        let reply = infer(fields);
        let body = reply.json();
        assert_eq!(reply.status, status, "{body}");
        assert!(body["message"].as_str().is_some_and(|text| text.contains(words)), "{body}");
    }
}

#[test]
fn every_format_and_orientation_gets_what_detect_finds() {
    for (name, picture) in pictures::in_every_format_and_orientation() {
        println!("{name}");
        let expected = found::by_detect(&url(""), QUERY, &picture);
        found::assert_same(&expected, &of(&infer(json!({"image": image(&picture)})).json()));
    }
}
