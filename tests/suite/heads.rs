//! Every head that `model.toml` can name finds what ONNX Runtime finds, and a network that does not fit its head is
//! refused when it is baked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use detector::detections;
use detector::model::{Model, ModelConfig};
use detector::options::Options;
use serde::Deserialize;
use spotter_tests::reference::{self, Comparison, Detection, Tolerance};
use spotter_tests::{client, native, pictures, root, run, stderr, stdout, yolox};

const HEADS: [&str; 9] = [
    "boxes_scores",
    "detr_sigmoid",
    "detr_softmax",
    "end_to_end",
    "ssd_tensorflow",
    "ssd_torchvision",
    "yolov5",
    "yolov8",
    "yolox",
];

fn folder(head: &str) -> PathBuf {
    root().join("tests/heads").join(head)
}

fn text(head: &str, file: &str) -> String {
    std::fs::read_to_string(folder(head).join(file)).expect("a model's file")
}

fn network(head: &str, file: &str) -> Vec<u8> {
    std::fs::read(folder(head).join(file)).expect("a network")
}

/// The detections in the picture that the references were made from, down to a little below the threshold.
fn detect(model: &Model) -> Vec<Detection> {
    let picture = std::fs::read(root().join("tests/heads/cat.png")).expect("a picture");
    let mut options = Options::new(model.thresholds());
    options.min_confidence = 0.28;
    let (report, _) = detector::detect(model, &picture, &options).expect("detections");
    report.detections.iter().map(own).collect()
}

fn own(detection: &detections::Detection) -> Detection {
    let frame = detection.bounding_box;
    Detection {
        label: detection.label.to_owned(),
        class_id: detection.class_id,
        confidence: f64::from(detection.confidence),
        corners: [frame.x_min, frame.y_min, frame.x_max, frame.y_max].map(f64::from),
    }
}

#[test]
fn every_head_finds_what_onnx_runtime_finds() {
    for head in HEADS {
        let file = network(head, "reference.json");
        let reference: reference::Reference = serde_json::from_slice(&file).expect("a reference");
        let ours = detect(&native::model_in(&folder(head)));
        let tolerance = Tolerance { confidence: 0.005, overlap: 0.98 };
        let found = reference::compare(&reference.detections, &ours, 0.3, tolerance);
        println!("{head}: {} matched", found.matched);
        assert_eq!(found.tosses, Vec::<String>::new(), "{head}");
        assert_eq!(found.differences, Vec::<String>::new(), "{head}");
        assert!(found.matched >= 4, "{head}: {}", found.matched);
    }
}

#[test]
fn suppression_is_what_model_toml_says() {
    // Few of its boxes overlap by half.
    let count = |keys: &str| {
        let manifest = text("yolov8", "model.toml")
            .replace("iou_threshold = 0.5", "iou_threshold = 0.05")
            .replace("[output]", &format!("[output]\n{keys}"));
        let labels = text("yolov8", "labels.txt");
        let model = native::load(&manifest, &labels, &network("yolov8", "model.onnx"));
        detect(&model.expect("a model")).len()
    };
    let default = count("");
    assert_eq!(count("suppression = \"per_class\""), default);
    let agnostic = count("suppression = \"class_agnostic\"");
    assert!(agnostic < default, "{agnostic} {default}");
    let none = count("suppression = \"none\"");
    assert!(none > default, "{none} {default}");
}

#[test]
fn a_network_that_does_not_fit_its_head_is_refused_with_what_was_expected() {
    let three = text("yolov8", "labels.txt");
    let toml = |head: &str, from: &str, to: &str| {
        let text = text(head, "model.toml");
        assert!(text.contains(from), "{head}: {from}");
        text.replace(from, to)
    };
    let half = network("boxes_scores", "half_outputs.onnx");
    let detr = network("detr_sigmoid", "model.onnx");
    let yolov8 = network("yolov8", "model.onnx");
    let as_scores = "boxes = \"pred_boxes\"\nscores = \"logits\"\nbox_format = \"centre\"";
    let detr_output =
        "head = \"detr\"\nboxes = \"pred_boxes\"\nlogits = \"logits\"\nactivation = \"sigmoid\"";
    /// A name, `model.toml`, `labels.txt`, the network, and what the error says.
    type Case<'c> = (&'c str, String, &'c str, &'c [u8], [&'c str; 2]);
    let cases: [Case; 9] = [
        (
            "16 bits",
            text("boxes_scores", "model.toml"),
            &three,
            &half,
            ["`boxes` is f16", "must be f32"],
        ),
        (
            "logits",
            toml("detr_sigmoid", detr_output, as_scores),
            &three,
            &detr,
            ["the scores in `logits`", "must be probabilities"],
        ),
        (
            "another head",
            toml("yolov8", "\"yolov8\"", "\"yolov5\""),
            &three,
            &yolov8,
            ["`output0` has the shape [1, 7, 64]", "it must be [1, N, 8]"],
        ),
        (
            "more labels",
            text("yolov8", "model.toml"),
            "a\nb\nc\nd\n",
            &yolov8,
            ["with 4 labels", "it must be [1, 8, N]"],
        ),
        (
            "no such output",
            toml("yolov8", "\"output0\"", "\"boxes\""),
            &three,
            &yolov8,
            ["no output `boxes`", "its outputs are output0"],
        ),
        (
            "no such input",
            toml("yolov8", "\"images\"", "\"image\""),
            &three,
            &yolov8,
            ["no input `image`", "its inputs are images"],
        ),
        (
            "another element",
            toml("yolov8", "element = \"f32\"\nscale = 0.00392156862745098", "element = \"u8\""),
            &three,
            &yolov8,
            ["input `images` is f32 [1, 3, 64, 64]", "u8 [1, 3, 64, 64]"],
        ),
        (
            "another layout",
            toml("yolov8", "layout = \"nchw\"", "layout = \"nhwc\""),
            &three,
            &yolov8,
            ["input `images` is f32 [1, 3, 64, 64]", "f32 [1, 64, 64, 3]"],
        ),
        (
            "mean with u8",
            toml("end_to_end", "fit = ", "mean = [1.0, 1.0, 1.0]\nfit = "),
            &three,
            &yolov8,
            ["input.mean", "normalises"],
        ),
    ];
    for (name, manifest, labels, network, words) in cases {
        let refused = native::load(&manifest, labels, network).err();
        let error = format!("{:#}", refused.unwrap_or_else(|| panic!("{name}: accepted")));
        for word in words {
            assert!(error.contains(word), "{name}: {error} lacks {word:?}");
        }
    }
}

#[test]
fn inspect_prints_a_manifest_with_the_networks_head() {
    for head in HEADS {
        let network = folder(head).join("model.onnx");
        let inspected = run(&["model", "inspect", network.to_str().expect("a path")]);
        assert!(inspected.status.success(), "{head}: {}", stderr(&inspected));
        assert!(!stderr(&inspected).contains("missing"), "{head}: {}", stderr(&inspected));
        let manifest = ModelConfig::parse(&stdout(&inspected));
        let manifest = manifest.unwrap_or_else(|error| panic!("{head}: {error:#}"));
        let own = ModelConfig::parse(&text(head, "model.toml")).expect("a manifest");
        assert_eq!(manifest.input.shape(), own.input.shape(), "{head}");
        assert_eq!(manifest.input.element, own.input.element, "{head}");
        assert_eq!(manifest.output.head.outputs(), own.output.head.outputs(), "{head}");
        let kind = |manifest: &ModelConfig| std::mem::discriminant(&manifest.output.head);
        assert_eq!(kind(&manifest), kind(&own), "{head}");
    }
    let inspected = run(&["model", "inspect", "README.md"]);
    assert!(stderr(&inspected).contains("not an ONNX file"), "{}", stderr(&inspected));
}

/// A detection of the reference of YOLOX-Nano, whose classes are columns.
#[derive(Deserialize)]
struct Column {
    class_index: u32,
    confidence: f64,
    #[serde(rename = "box")]
    corners: [f64; 4],
}

#[test]
#[cfg_attr(not(shared_pictures), ignore = "YOLOX-Nano is not in a clone: set SPOTTER_SHARED")]
fn yolox_nano_as_it_is_published_finds_what_onnx_runtime_finds() {
    let shared = pictures::shared().expect("SPOTTER_SHARED");
    let published = shared.join("model/third-party");
    let labels = std::fs::read_to_string(shared.join("model/labels_coco80.txt")).expect("labels");
    let (server, _folder) = yolox::serve(&shared);
    let file = std::fs::read(published.join("yolox_nano_coco_416.json")).expect("a reference");
    let references: BTreeMap<String, Vec<Column>> =
        serde_json::from_slice(&file).expect("a reference");
    let names: Vec<&str> = labels.lines().collect();
    let mut all = Comparison::default();
    for (name, columns) in references {
        let folders = [shared.join("images"), shared.join("coco/images")];
        let path = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file());
        let picture = std::fs::read(path.expect("a picture")).expect("a picture");
        let reply = client::post_picture(&server.url("/detect?min_confidence=0.2"), &picture);
        let expected: Vec<Detection> = columns
            .into_iter()
            .map(|column| Detection {
                label: names[column.class_index as usize].to_owned(),
                class_id: column.class_index,
                confidence: column.confidence,
                corners: column.corners,
            })
            .collect();
        // The two JPEG decoders and the two resizes differ by a grey level here and there.
        let tolerance = Tolerance { confidence: 0.06, overlap: 0.98 };
        let ours = reference::of_reply(&reply.json());
        all.add(&name, reference::compare(&expected, &ours, 0.3, tolerance));
    }
    all.check(100);
}
