//! `spotter model`: a model is checked, added to an application, listed and shown.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use spotter_tests::reference::{self, Reference, Tolerance};
use spotter_tests::server::Server;
use spotter_tests::{client, component, pictures, root, run, spotter, stderr, stdout};
use tempfile::TempDir;

const PICTURE: &str = "tests/heads/cat.png";

fn head(name: &str) -> PathBuf {
    root().join("tests/heads").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A copy of a head's model with a changed `model.toml`.
fn changed(name: &str, from: &str, to: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["model.toml", "model.onnx", "labels.txt"] {
        std::fs::copy(head(name).join(file), folder.path().join(file)).expect("a model's file");
    }
    let path = folder.path().join("model.toml");
    let manifest = std::fs::read_to_string(&path).expect("a manifest");
    assert!(manifest.contains(from), "{manifest}");
    std::fs::write(path, manifest.replace(from, to)).expect("a manifest");
    folder
}

/// A new application.
fn application() -> TempDir {
    component();
    let folder = tempfile::tempdir().expect("a folder");
    let made = within(folder.path(), &["new", "app"]);
    assert!(made.status.success(), "{}", stderr(&made));
    folder
}

fn within(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(spotter());
    command.args(arguments).current_dir(folder).output().expect("spotter starts")
}

#[test]
fn check_finds_what_onnx_runtime_finds_and_draws_it() {
    component();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("boxes.png");
    let model = head("yolov8");
    let arguments = ["--json", "--min-confidence", "0.28", "-o", text(&copy)];
    let output = run(&[&["model", "check", text(&model), PICTURE], &arguments[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    for line in
        ["head     yolov8", "input    images: f32 [1, 3, 64, 64]", "labels   3: cat, dog, cup"]
    {
        assert!(said.contains(line), "{said} lacks {line}");
    }
    let reply: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let expected = std::fs::read(model.join("reference.json")).expect("a reference");
    let expected: Reference = serde_json::from_slice(&expected).expect("a reference");
    let tolerance = Tolerance { confidence: 0.005, overlap: 0.98 };
    let ours = reference::of_reply(&reply);
    let found = reference::compare(&expected.detections, &ours, 0.3, tolerance);
    assert_eq!(found.differences, Vec::<String>::new());
    assert!(found.matched >= 4, "{}", found.matched);
    let drawn = image::open(&copy).expect("a picture").to_rgb8();
    let plain = image::open(root().join(PICTURE)).expect("a picture").to_rgb8();
    assert_eq!(drawn.dimensions(), plain.dimensions());
    assert_ne!(drawn, plain, "nothing is drawn");
}

#[test]
fn check_says_what_is_wrong_with_a_model() {
    component();
    let cases = [
        (changed("yolov8", "\"yolov8\"", "\"yolov5\""), "it must be [1, N, 8]"),
        (changed("yolov8", "width = 64", "width = 64.5"), "model.toml"),
        (changed("yolov8", "\"yolov8\"", "\"yolov88\""), "unknown variant `yolov88`"),
        (changed("yolov8", "name = \"yolov8\"", ""), "missing field `name`"),
    ];
    for (folder, words) in &cases {
        let output = run(&["model", "check", text(folder.path()), PICTURE]);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(stderr(&output).contains(words), "{} lacks {words}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    }
    let missing = run(&["model", "check", "tests/heads", PICTURE]);
    assert!(stderr(&missing).contains("a model's folder holds"), "{}", stderr(&missing));
    assert_eq!(run(&["model", "check", "tests/heads"]).status.code(), Some(64), "no picture");
}

#[test]
fn inspect_names_each_operator_that_the_engine_lacks_and_says_what_to_do() {
    let network = std::fs::read(head("yolov8").join("model.onnx")).expect("a network");
    let folder = changed("yolov8", "", "");
    let path = folder.path().join("model.onnx");
    let inspect = || run(&["model", "inspect", text(&path)]);
    assert!(!stderr(&inspect()).contains("missing"), "{}", stderr(&inspect()));

    // Names of the same length, so that the file's lengths stay right.
    let network = replaced(&network, "Sigmoid", "Sigmold");
    std::fs::write(&path, replaced(&network, "Transpose", "Transpoze")).expect("a network");
    let inspected = inspect();
    assert!(inspected.status.success(), "{}", stderr(&inspected));
    let said = stderr(&inspected);
    for words in
        ["missing Sigmold, Transpoze: ", "opset", "--nn-engine onnxruntime", "docs/models.md"]
    {
        assert!(said.contains(words), "{said} lacks {words}");
    }
    assert!(stdout(&inspected).contains("head = \"yolov8\""), "{}", stdout(&inspected));

    // The engine in the component is the same, and names the first that it meets.
    component();
    let refused = run(&["model", "check", text(folder.path()), PICTURE]);
    assert_eq!(refused.status.code(), Some(1));
    let names_one = ["Sigmold", "Transpoze"].iter().any(|name| stderr(&refused).contains(name));
    assert!(names_one, "{}", stderr(&refused));
}

/// Bytes with each occurrence of a text replaced.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..bytes.len()).filter(|start| bytes[*start..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "there is no {from}");
    for start in places {
        bytes[start..start + from.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn a_model_that_is_added_is_served_beside_the_first_and_baked_again_by_build() {
    let folder = application();
    let app = folder.path().join("app");
    let model = head("yolov8");
    let added = within(&app, &["model", "add", text(&model), "--name", "cats_and_dogs"]);
    assert!(added.status.success(), "{}", stderr(&added));

    let listed = stdout(&within(&app, &["model", "list"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].starts_with("cats_and_dogs"), "{listed}");
    assert!(lines[0].contains("yolov8") && lines[0].contains("/cats-and-dogs/..."), "{listed}");
    assert!(lines[1].starts_with("ssdlite_mobilenet_v2") && lines[1].contains("80 labels"));
    let shown = stdout(&within(&app, &["model", "show", "ssdlite_mobilenet_v2"]));
    for line in
        ["head     boxes_scores", "input    image: u8 [1, 300, 300, 3]", "licence  Apache-2.0"]
    {
        assert!(shown.contains(line), "{shown} lacks {line}");
    }
    let same = stdout(&within(&app, &["model", "show", "detector.wasm"]));
    assert_eq!(same.lines().take(6).collect::<Vec<_>>(), shown.lines().take(6).collect::<Vec<_>>());
    let unknown = within(&app, &["model", "show", "cats_and_dog"]);
    assert!(stderr(&unknown).contains("did you mean `cats_and_dogs`?"), "{}", stderr(&unknown));

    let picture = std::fs::read(root().join(PICTURE)).expect("a picture");
    {
        let server = serve(&app);
        let found = |path: &str| {
            let reply = client::post_picture(&server.url(path), &picture);
            assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
            reply.json()
        };
        let own = found("/cats-and-dogs/detect");
        assert_eq!(own["model"], "cats_and_dogs");
        let count = own["detections"].as_array().expect("detections").len();
        assert!(count > 1, "{own}");
        let custom = client::post_form(
            &server.url("/v1/vision/custom/cats_and_dogs"),
            &[("image", Some("cat.png"), &picture), ("min_confidence", None, b"0.3")],
        );
        assert_eq!(custom.json()["count"], count, "{}", custom.json());
        for rest in ["ready", "versions/1", "versions/1/ready"] {
            let ready = client::get(&server.url(&format!("/v2/models/cats_and_dogs/{rest}")));
            assert_eq!(ready.json()["name"], "cats_and_dogs", "{rest}");
        }
        let cat = pictures::bytes("skimage_chelsea.png");
        let first = client::post_picture(&server.url("/detect"), &cat).json();
        assert_eq!(first["detections"][0]["label"], "cat");
        assert_eq!(first["model"], "ssdlite_mobilenet_v2");
    }

    let manifest = app.join("models/cats-and-dogs/model.toml");
    let edited = std::fs::read_to_string(&manifest).expect("a manifest");
    let edited = edited.replace("max_detections = 100", "max_detections = 1");
    std::fs::write(&manifest, edited).expect("a manifest");
    let built = within(&app, &["build"]);
    assert!(built.status.success(), "{}", stderr(&built));
    let server = serve(&app);
    let reply = client::post_picture(&server.url("/cats-and-dogs/detect"), &picture).json();
    assert_eq!(reply["detections"].as_array().map(Vec::len), Some(1), "{reply}");
}

fn serve(app: &Path) -> Server {
    let mut command = Command::new(spotter());
    command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(app);
    Server::spawn(command)
}

#[test]
fn an_onnx_file_needs_labels_and_a_refused_model_leaves_the_application_as_it_was() {
    let folder = application();
    let app = folder.path().join("app");
    let manifest = || std::fs::read_to_string(app.join("spin.toml")).expect("a manifest");
    let before = manifest();
    let network = head("yolov8").join("model.onnx");
    let labels = head("yolov8").join("labels.txt");
    let faulty = changed("yolov8", "\"yolov8\"", "\"yolov5\"");
    let refused = [
        (vec![text(&network)], "does not name its 3 classes"),
        (vec![text(faulty.path())], "it must be [1, N, 8]"),
        (
            vec![text(&network), "--labels", text(&labels), "--name", "a/b"],
            "cannot be a model's name",
        ),
        (
            vec![text(&network), "--labels", text(&labels), "--name", "detector"],
            "[component.detector]",
        ),
        (vec!["spin.toml"], "not an ONNX file"),
        (vec!["nowhere"], "cannot read nowhere"),
    ];
    for (arguments, words) in refused {
        let output = within(&app, &[&["model", "add"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(stderr(&output).contains(words), "{} lacks {words}", stderr(&output));
        assert_eq!(manifest(), before);
        assert!(!app.join("models").exists(), "{words}");
    }
    let arguments = ["model", "add", text(&network), "--labels", text(&labels), "--name", "shapes"];
    let added = within(&app, &arguments);
    assert!(added.status.success(), "{}", stderr(&added));
    let after = manifest();
    for line in before.lines() {
        assert!(after.contains(line), "{after} lacks {line}");
    }
    let guessed = std::fs::read_to_string(app.join("models/shapes/model.toml")).expect("a file");
    assert!(guessed.contains("name = \"shapes\"") && guessed.contains("head = \"yolov8\""));
    let again = within(&app, &arguments);
    assert!(stderr(&again).contains("[component.shapes]"), "{}", stderr(&again));
    let outside = within(folder.path(), &arguments);
    assert!(stderr(&outside).contains("spotter new"), "{}", stderr(&outside));
}
