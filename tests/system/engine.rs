//! Networks that ONNX Runtime runs for components, from the shared library in its Python package.

use std::process::Command;

use spotter_tests::reference::{self, Comparison, Tolerance};
use spotter_tests::server::Server;
use spotter_tests::{client, peer, pictures, root, run, spotter, stderr};

/// `onnxruntime=PATH` of the library in the package from PyPI.
fn engine() -> String {
    let folder = peer::flask_packages().join("onnxruntime/capi");
    let files = std::fs::read_dir(folder).expect("a folder").flatten();
    let library = files
        .map(|file| file.path())
        .find(|path| path.to_string_lossy().contains("/libonnxruntime.so"))
        .expect("the package carries the library");
    format!("onnxruntime={}", library.display())
}

fn build(arguments: &[&str]) {
    let output = run(&[&["build"], arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian, with pip")]
fn onnx_runtime_in_the_host_finds_what_the_embedded_network_finds() {
    build(&["--profile", "accelerated"]);
    let server = Server::start(&["--profile", "accelerated", "--nn-engine", &engine()]);
    let path = "/detect?min_confidence=0.1&max_detections=1000";
    let tolerance = Tolerance { confidence: 0.005, overlap: 0.98 };
    let mut all = Comparison::default();
    for name in reference::read(&root().join("tests/pictures/reference.json")).keys() {
        let picture = pictures::bytes(name);
        let of = |server: &Server| {
            reference::of_reply(&client::post_picture(&server.url(path), &picture).json())
        };
        let found = reference::compare(&of(Server::shared()), &of(&server), 0.11, tolerance);
        all.add(name, found);
    }
    all.check(100);
    // Each of several at once has a session of its own.
    let cat = pictures::jpeg(&pictures::cat());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let reply = client::post_picture(&server.url("/detect"), &cat).json();
                assert_eq!(reply["detections"][0]["label"], "cat", "{reply}");
            });
        }
    });
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian, with pip")]
fn a_deadline_stops_onnx_runtime_too_and_a_library_that_is_none_is_named() {
    build(&["-f", "tests/guests/nn_client"]);
    let mut command = Command::new(spotter());
    command.args(["up", "-f", "tests/guests/nn_client", "--listen", "127.0.0.1:0"]);
    command.args(["--request-cpu", "300ms", "--nn-engine", &engine()]).current_dir(root());
    let server = Server::spawn(command);
    let reply = client::get(&server.url("/granted/compute-for-ever"));
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "cpu_limit_exceeded"));
    let reply = client::get(&server.url("/granted/wrong-length"));
    assert!(reply.body.starts_with(b"ErrorCode::InvalidArgument: "));
    assert_eq!(client::get(&server.url("/granted/compute")).status, 200);

    let missing = ["up", "--profile", "accelerated", "--nn-engine", "onnxruntime=/nowhere.so"];
    let output = run(&missing);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere.so"), "{}", stderr(&output));
    assert_eq!(run(&["up", "--nn-engine", "magic"]).status.code(), Some(64));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian, with pip")]
fn an_input_that_the_engine_does_not_take_is_refused_before_anything_is_served() {
    build(&["--profile", "accelerated"]);
    let model = root().join("function/model/ssdlite_mobilenet_v2");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(model.join("model.onnx"), folder.path().join("model.onnx")).expect("a copy");
    let manifest = std::fs::read_to_string(model.join("model.toml")).expect("a manifest");
    let half = manifest.replace("element = \"u8\"", "element = \"f16\"");
    assert_ne!(half, manifest);
    std::fs::write(folder.path().join("model.toml"), half).expect("a manifest");
    let named = format!("ssdlite-mobilenet-v2={}", folder.path().display());
    let engine = engine();
    let up = ["up", "--profile", "accelerated", "--model", &named, "--nn-engine", &engine];
    let output = run(&up);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("takes no input of f16"), "{}", stderr(&output));
}
