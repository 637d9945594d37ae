//! Several models in one application: the example of docs/models.md, as it is written.

use std::path::Path;
use std::process::Command;

use spotter_tests::server::Server;
use spotter_tests::{client, root, spotter, stderr, unbaked};
use tempfile::TempDir;

/// The first line of the example.
const FIRST_LINE: &str = "# Two models.";

fn example() -> String {
    let guide = std::fs::read_to_string(root().join("docs/models.md")).expect("the guide");
    let (_, rest) = guide.split_once(&format!("```toml\n{FIRST_LINE}")).expect("an example");
    rest.split("```").next().expect("its end").to_owned()
}

/// A folder with the example, its module, and two small models under the names that it uses.
fn application() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("spin.toml"), example()).expect("a manifest");
    std::fs::create_dir(folder.path().join("models")).expect("a folder");
    let module = folder.path().join("models/detector.module.wasm");
    std::fs::copy(unbaked(), module).expect("a module");
    for (name, head) in [("street", "yolov8"), ("parcels", "end_to_end")] {
        copy_model(head, &folder.path().join("models").join(name), name);
    }
    folder
}

fn copy_model(head: &str, to: &Path, name: &str) {
    std::fs::create_dir(to).expect("a folder");
    let from = root().join("tests/heads").join(head);
    for file in ["labels.txt", "model.onnx"] {
        std::fs::copy(from.join(file), to.join(file)).expect("a model's file");
    }
    let manifest = std::fs::read_to_string(from.join("model.toml")).expect("a manifest");
    let named = manifest.replace(&format!("name = \"{head}\""), &format!("name = \"{name}\""));
    assert_ne!(manifest, named);
    std::fs::write(to.join("model.toml"), named).expect("a manifest");
}

#[test]
fn two_models_in_one_application_answer_on_routes_of_their_own() {
    let folder = application();
    let spotter = |arguments: &[&str]| {
        let mut command = Command::new(spotter());
        command.args(arguments).current_dir(folder.path());
        command
    };
    let built = spotter(&["build"]).output().expect("spotter starts");
    assert!(built.status.success(), "{}", stderr(&built));
    let server = Server::spawn(spotter(&["up", "--listen", "127.0.0.1:0"]));
    let picture = std::fs::read(root().join("tests/heads/cat.png")).expect("a picture");
    for (path, model) in [("/detect", "street"), ("/parcels/detect", "parcels")] {
        let reply = client::post_picture(&server.url(path), &picture);
        assert_eq!(reply.json()["model"], model, "{path}");
    }
    let form = [("image", Some("cat.png"), picture.as_slice()), ("min_confidence", None, b"0.1")];
    for name in ["street", "parcels"] {
        let custom = client::post_form(&server.url(&format!("/v1/vision/custom/{name}")), &form);
        assert_eq!(custom.json()["success"], true, "{name}: {}", custom.json());
        for rest in ["", "/ready", "/versions/1", "/versions/1/ready"] {
            let path = format!("/v2/models/{name}{rest}");
            let reply = client::get(&server.url(&path));
            assert_eq!(reply.json()["name"], name, "{path}");
        }
    }
    assert_a_query_selects_the_model(&server, &picture);
    let page = client::get(&server.url("/parcels/"));
    assert!(String::from_utf8_lossy(&page.body).contains("<html"), "the second model's page");
    let list = client::get(&server.url("/v1/vision/custom/list"));
    assert_eq!(list.json()["models"], serde_json::json!(["street", "parcels"]));
}

/// `model=` in the query reaches the component that serves the model, whatever the API.
fn assert_a_query_selects_the_model(server: &Server, picture: &[u8]) {
    for (query, model) in
        [("model=parcels", "parcels"), ("max_detections=3&model=street", "street")]
    {
        let reply = client::post_picture(&server.url(&format!("/detect?{query}")), picture);
        assert_eq!(reply.json()["model"], model, "{query}");
        let labels = client::get(&server.url(&format!("/labels?{query}")));
        assert_eq!(labels.json()["model"], model, "{query}");
    }
    // The second model's path, and another model's name: neither takes precedence.
    for path in ["/detect?model=tomatoes", "/parcels/detect?model=street"] {
        let reply = client::post_picture(&server.url(path), picture);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.json()["error"]["code"], "unknown_model", "{path}");
    }
    // Only the query selects a model: a name elsewhere must not be ignored.
    let form = [("image", Some("cat.png"), picture), ("model", None, b"parcels".as_slice())];
    let reply = client::post_form(&server.url("/detect"), &form);
    assert_eq!((reply.status, reply.error_code().as_str()), (404, "unknown_model"));
}
