//! `POST /detect` and the other endpoints, over HTTP, with the baked component.

use base64::Engine;
use serde_json::{Value, json};
use spotter_tests::client::{self, Reply};
use spotter_tests::pictures;
use spotter_tests::server::Server;

fn url(path: &str) -> String {
    Server::shared().url(path)
}

fn labels(reply: &Value) -> Vec<String> {
    let detections = reply["detections"].as_array().unwrap_or_else(|| panic!("{reply}"));
    detections.iter().map(|detection| detection["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_cat_is_found_with_its_box_and_share_of_the_picture() {
    let reply = client::post_picture(&url("/detect"), &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "application/json");
    let reply = reply.json();
    assert_eq!(reply["model"], "ssdlite_mobilenet_v2");
    assert_eq!(reply["image"], json!({"width": 451, "height": 300}));
    assert_eq!(labels(&reply), ["cat"]);
    let cat = &reply["detections"][0];
    assert_eq!(cat["class_id"], 17);
    assert!(cat["confidence"].as_f64().unwrap() > 0.9, "{cat}");
    let corner = |name: &str| cat["box"][name].as_f64().unwrap();
    let area = (corner("x_max") - corner("x_min")) * (corner("y_max") - corner("y_min"));
    let share = cat["area_ratio"].as_f64().unwrap();
    assert!((share - area / (451.0 * 300.0)).abs() < 0.001, "{cat}");
    assert!(reply["timings_ms"]["inference"].as_f64().unwrap() > 0.0, "{reply}");
}

#[test]
fn bytes_form_and_json_get_the_same_detections() {
    let picture = pictures::bytes("skimage_coffee.png");
    let url = url("/detect");
    let encoded = base64::engine::general_purpose::STANDARD.encode(&picture);
    let replies = [
        client::post_picture(&url, &picture),
        client::send("POST", &url, &[("content-type", "image/png")], &picture),
        client::post_form(&url, &[("image", Some("coffee.png"), &picture)]),
        client::post_json(&url, &json!({"image": encoded})),
        client::post_json(&url, &json!({"image": format!("data:image/png;base64,{encoded}")})),
    ];
    let expected = replies[0].json()["detections"].clone();
    assert!(!expected.as_array().unwrap().is_empty());
    for reply in &replies {
        assert_eq!(reply.json()["detections"], expected);
    }
}

#[test]
fn options_mean_the_same_in_the_query_the_form_and_json() {
    let picture = pictures::bytes("skimage_coffee.png");
    let encoded = base64::engine::general_purpose::STANDARD.encode(&picture);
    let replies = [
        client::post_picture(&url("/detect?min_confidence=0.05&classes=cup,bowl"), &picture),
        client::post_form(
            &url("/detect"),
            &[
                ("min_confidence", None, b"0.05"),
                ("image", Some("coffee.png"), &picture),
                ("classes", None, b"cup, bowl"),
            ],
        ),
        client::post_json(
            &url("/detect"),
            &json!({"image": encoded, "min_confidence": 0.05, "classes": ["cup", "bowl"]}),
        ),
    ];
    let expected = replies[0].json()["detections"].clone();
    for reply in &replies {
        let reply = reply.json();
        assert_eq!(reply["detections"], expected);
        assert!(labels(&reply).iter().all(|label| label == "cup" || label == "bowl"), "{reply}");
    }
    assert!(expected.as_array().unwrap().len() > 1, "{expected}");
}

#[test]
fn detections_are_sorted_limited_and_thinned() {
    let picture = pictures::bytes("skimage_rocket.jpg");
    let ask = |query: &str| {
        let reply =
            client::post_picture(&url(&format!("/detect?min_confidence=0.02&{query}")), &picture);
        let confidences: Vec<f64> = reply.json()["detections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|detection| detection["confidence"].as_f64().unwrap())
            .collect();
        assert!(confidences.is_sorted_by(|a, b| a >= b), "{confidences:?}");
        confidences.len()
    };
    let all = ask("max_detections=1000");
    assert!(all > 3, "{all}");
    assert_eq!(ask("max_detections=3"), 3);
    assert!(ask("max_detections=1000&iou_threshold=1") > all);
    assert!(ask("max_detections=1000&iou_threshold=0.05") < all);
}

#[test]
fn several_pictures_are_answered_in_order_each_with_its_result_or_error() {
    let reply = client::post_form(
        &url("/detect"),
        &[
            ("image", Some("cat.png"), &pictures::bytes("skimage_chelsea.png")),
            ("image", Some("text.txt"), b"not a picture at all, but long enough to be one"),
            ("image", Some("coffee.png"), &pictures::bytes("skimage_coffee.png")),
        ],
    );
    assert_eq!(reply.status, 200);
    let reply = reply.json();
    assert_eq!(reply.as_array().unwrap().len(), 3);
    assert_eq!(labels(&reply[0]), ["cat"]);
    assert_eq!(reply[1]["error"]["code"], "not_a_picture");
    assert!(labels(&reply[2]).contains(&"cup".to_owned()), "{reply}");
}

fn annotated(reply: &Reply) -> image::RgbImage {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    image::load_from_memory(&reply.body).expect("a picture").into_rgb8()
}

/// How many pixels differ clearly between two pictures of the same size.
fn changed(a: &image::RgbImage, b: &image::RgbImage) -> usize {
    assert_eq!(a.dimensions(), b.dimensions());
    let differs = |(a, b): &(&image::Rgb<u8>, &image::Rgb<u8>)| {
        a.0.iter().zip(b.0).any(|(a, b)| a.abs_diff(b) > 60)
    };
    a.pixels().zip(b.pixels()).filter(differs).count()
}

#[test]
fn an_annotated_picture_comes_back_in_the_format_asked_for() {
    let picture = pictures::bytes("skimage_chelsea.png");
    let plain = pictures::cat();
    let accept = |format| {
        let headers = [("content-type", "image/png"), ("accept", format)];
        client::send("POST", &url("/detect"), &headers, &picture)
    };
    let png = accept("image/png");
    assert_eq!(png.header("content-type"), "image/png");
    let jpeg = accept("image/jpeg");
    assert_eq!(jpeg.header("content-type"), "image/jpeg");
    let asked = client::post_picture(&url("/detect?annotate=true"), &picture);
    assert_eq!(asked.header("content-type"), "image/jpeg");
    for reply in [&png, &jpeg, &asked] {
        let drawn = changed(&annotated(reply), &plain);
        // Only an outline and a label are drawn: the cat can still be seen.
        assert!((1_000..60_000).contains(&drawn), "{drawn} pixels changed");
    }
}

#[test]
fn annotations_fit_a_thumbnail_and_a_twelve_megapixel_photograph() {
    let cat = image::DynamicImage::ImageRgb8(pictures::cat());
    for (width, height) in [(200, 133), (4000, 3000)] {
        let picture = cat.resize_exact(width, height, image::imageops::FilterType::Triangle);
        let plain = picture.to_rgb8();
        let reply = client::send(
            "POST",
            &url("/detect?classes=cat"),
            &[("content-type", "image/jpeg"), ("accept", "image/jpeg")],
            &pictures::jpeg(&plain),
        );
        let share = changed(&annotated(&reply), &plain) as f64 / f64::from(width * height);
        // The label and the lines take the same share of a picture of any size.
        assert!((0.01..0.25).contains(&share), "{width}x{height}: {share}");
    }
}

#[test]
fn labels_and_health_answer_without_a_picture() {
    let labels = client::get(&url("/labels")).json();
    assert_eq!(labels["model"], "ssdlite_mobilenet_v2");
    let labels = labels["labels"].as_array().unwrap();
    assert_eq!(labels.len(), 80);
    assert_eq!(labels[0], json!({"class_id": 1, "label": "person"}));
    assert_eq!(labels[79], json!({"class_id": 90, "label": "toothbrush"}));
    let health = client::get(&url("/healthz"));
    assert_eq!((health.status, health.json()["status"].clone()), (200, json!("ok")));
    let head = client::send("HEAD", &url("/healthz"), &[], &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_wrong_method_is_told_which_is_allowed_and_an_unknown_path_is_404() {
    for (method, path, allow) in [
        ("GET", "/detect", "POST"),
        ("DELETE", "/detect", "POST"),
        ("POST", "/labels", "GET, HEAD"),
        ("PUT", "/healthz", "GET, HEAD"),
        ("BREW", "/healthz", "GET, HEAD"),
    ] {
        let reply = client::send(method, &url(path), &[], &[]);
        assert_eq!(reply.status, 405, "{method} {path}");
        assert_eq!(reply.header("allow"), allow, "{method} {path}");
        assert_eq!(reply.error_code(), "method_not_allowed");
    }
    let reply = client::get(&url("/nothing/here"));
    assert_eq!((reply.status, reply.error_code().as_str()), (404, "not_found"));
}

#[test]
fn an_exact_route_leads_to_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest =
        std::fs::read_to_string(spotter_tests::root().join("spin.toml")).expect("a manifest");
    let source = spotter_tests::component().canonicalize().expect("a component");
    let manifest = manifest
        .replace("route = \"/...\"", "route = \"/detect\"")
        .replace("\"target/spotter/detector.wasm\"", &format!("{source:?}"));
    std::fs::write(folder.path().join("spin.toml"), manifest).expect("a manifest");
    let mut command = std::process::Command::new(spotter_tests::spotter());
    command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(folder.path());
    let server = Server::spawn(command);
    let reply =
        client::post_picture(&server.url("/detect"), &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.status, 200);
    assert_eq!(client::get(&server.url("/labels")).error_code(), "no_route");
}

#[test]
fn annotate_goes_before_the_accept_header_and_a_list_is_json() {
    let cat = pictures::bytes("skimage_chelsea.png");
    let headers = [("content-type", "image/png"), ("accept", "image/jpeg")];
    let reply = client::send("POST", &url("/detect?annotate=false"), &headers, &cat);
    assert_eq!(reply.header("content-type"), "application/json");
    let (content_type, body) =
        client::form(&[("image", Some("a"), &cat), ("image", Some("b"), &cat)]);
    let headers = [("content-type", content_type.as_str()), ("accept", "image/jpeg")];
    let reply = client::send("POST", &url("/detect"), &headers, &body);
    assert_eq!(reply.json().as_array().expect("a list").len(), 2);
    let twice = client::post_picture(&url("/detect?classes=dog&classes=cat"), &cat);
    assert_eq!(labels(&twice.json()), ["cat"]);
}
