//! The profile `accelerated`: the host runs the network through `wasi:nn`, and every reply stays the same.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use spotter_tests::client::{self, Reply};
use spotter_tests::home::{assert_ran, run_in};
use spotter_tests::oci;
use spotter_tests::reference::{self, Comparison, Tolerance};
use spotter_tests::server::Server;
use spotter_tests::{pictures, root, run, spotter, stderr};

/// The accelerated component, built.
fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let output = run(&["build", "--profile", "accelerated"]);
        assert!(output.status.success(), "{}", stderr(&output));
    });
}

fn start(arguments: &[&str]) -> Server {
    build();
    Server::start(&[&["--profile", "accelerated"], arguments].concat())
}

/// The guests that use `wasi:nn` in wrong ways.
fn clients(arguments: &[&str]) -> Server {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let output = run(&["build", "-f", "tests/guests/nn_client"]);
        assert!(output.status.success(), "{}", stderr(&output));
    });
    let mut command = Command::new(spotter());
    command.args(["up", "-f", "tests/guests/nn_client", "--listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0"]).args(arguments).current_dir(root());
    Server::spawn(command)
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).expect("text")
}

#[test]
fn detections_are_those_of_the_embedded_network() {
    let (accelerated, embedded) = (start(&[]), Server::shared());
    let path = "/detect?min_confidence=0.1&max_detections=1000";
    let tolerance = Tolerance { confidence: 0.005, overlap: 0.98 };
    let mut all = Comparison::default();
    for name in reference::read(&root().join("tests/pictures/reference.json")).keys() {
        let bytes = pictures::bytes(name);
        let of = |server: &Server| {
            reference::of_reply(&client::post_picture(&server.url(path), &bytes).json())
        };
        let found = reference::compare(&of(embedded), &of(&accelerated), 0.11, tolerance);
        all.add(name, found);
    }
    all.check(100);
}

#[test]
fn every_other_reply_is_the_same() {
    let (accelerated, embedded) = (start(&[]), Server::shared());
    for path in ["/", "/openapi.json", "/v2", "/v2/models/ssdlite_mobilenet_v2", "/nothing"] {
        let of = |server: &Server| {
            let reply = client::get(&server.url(path));
            (reply.status, reply.body)
        };
        assert_eq!(of(&accelerated), of(embedded), "{path}");
    }
    for (path, body) in [
        ("/detect", b"no picture".as_slice()),
        ("/detect?min_confidence=2", b"GIF89a"),
        ("/detect?classes=unicorn", b"GIF89a"),
        ("/v1/vision/detection", b"no form"),
    ] {
        let of = |server: &Server| {
            let reply = client::post_picture(&server.url(path), body);
            (reply.status, reply.body)
        };
        assert_eq!(of(&accelerated), of(embedded), "{path}");
    }
}

#[test]
fn several_threads_find_the_same_and_leave_the_others_their_own() {
    let (one, several) = (start(&[]), start(&["--nn-threads", "3", "--instances", "2"]));
    let picture = pictures::photograph();
    let detect = |server: &Server| {
        let reply = client::post_picture(&server.url("/detect"), &picture);
        assert_eq!(reply.status, 200);
        reply.json()["detections"].clone()
    };
    let expected = detect(&one);
    assert_eq!(detect(&several), expected);
    if cfg!(target_os = "linux") {
        let names = std::fs::read_dir(format!("/proc/{}/task", several.pid())).expect("threads");
        let names = names.map(|thread| thread.expect("a thread").path().join("comm"));
        let names: Vec<_> = names.filter_map(|name| std::fs::read_to_string(name).ok()).collect();
        assert_eq!(names.iter().filter(|name| name.starts_with("nn-")).count(), 3, "{names:?}");
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(detect(&several), expected)));
        }
    });
    let arguments = ["up", "--nn-threads", "2", "--nn-engine", "onnxruntime=/any.so"];
    let refused = stderr(&run(&arguments));
    assert!(
        refused.contains("--nn-threads 2 (SPOTTER_NN_THREADS): only the engine `tract`"),
        "{refused}"
    );
    assert_eq!(run(&["up", "--nn-threads", "0"]).status.code(), Some(64));
}

#[test]
fn a_deadline_that_passes_inside_a_computation_ends_it_and_harms_nobody() {
    for threads in ["1", "2"] {
        a_deadline_ends_it(threads);
    }
}

fn a_deadline_ends_it(threads: &str) {
    let limits = ["--request-cpu", "1s", "--instances", "2", "--nn-threads", threads];
    let server = clients(&limits);
    let reply = client::get(&server.url("/granted/compute-for-ever"));
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "cpu_limit_exceeded"));
    assert_eq!(client::get(&server.url("/granted/compute")).status, 200);
    server.wait_for_metric("spotter_nn_in_flight{model=\"ssdlite-mobilenet-v2\"}", 0.0);
    let runs = server.metric("spotter_nn_seconds_count{model=\"ssdlite-mobilenet-v2\"}");
    assert!(runs >= 2.0, "{runs}");
}

#[test]
fn a_component_gets_no_network_but_those_it_is_granted() {
    let server = clients(&[]);
    let get = |path: &str| client::get(&server.url(path));
    assert_eq!(
        text(&get("/granted/compute")),
        "boxes [1, 1917, 4], scores [1, 1917, 90]",
        "the granted network runs"
    );
    for path in [
        "/without-grant/compute",
        "/granted/load-by-name?other",
        "/granted/load-by-name?../../function/model/ssdlite_mobilenet_v2",
        "/granted/load-by-name?/etc/passwd",
    ] {
        let reply = get(path);
        assert!(text(&reply).starts_with("ErrorCode::Security: "), "{path}: {}", text(&reply));
    }
    let loaded = get("/granted/load");
    assert!(text(&loaded).starts_with("ErrorCode::UnsupportedOperation: "), "{}", text(&loaded));
}

#[test]
fn inputs_that_the_network_does_not_take_are_refused_by_name() {
    let server = clients(&[]);
    for (path, words) in [
        ("wrong-name", "[\"picture\"]"),
        ("wrong-shape", "u8 [1, 3, 300, 300]; the graph takes u8 [1, 300, 300, 3]"),
        ("wrong-type", "f32 [1, 300, 300, 3]; the graph takes u8"),
        ("wrong-length", "has 7 bytes; 270000 elements"),
    ] {
        let reply = client::get(&server.url(&format!("/granted/{path}")));
        let said = text(&reply);
        assert!(said.starts_with("ErrorCode::InvalidArgument: ") && said.contains(words), "{said}");
    }
}

#[test]
fn tensors_count_against_the_instances_memory_until_they_are_dropped() {
    let server = clients(&["--instance-memory", "128MiB"]);
    let reply = client::get(&server.url("/granted/hoard"));
    assert_eq!((reply.status, reply.error_code().as_str()), (500, "memory_limit_exceeded"));
    assert_eq!(text(&client::get(&server.url("/granted/drop"))), "dropped");
    assert!(server.resident() < 400 << 20, "{} bytes", server.resident());
}

#[test]
fn memory_stays_small_when_several_pictures_are_detected_at_once() {
    let server = start(&["--instances", "2"]);
    let picture = pictures::photograph();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(client::post_picture(&server.url("/detect"), &picture).status, 200);
                }
            });
        }
    });
    let resident = server.resident() >> 20;
    println!("{resident} MiB after 40 pictures");
    // With AVX-512, glibc's heap keeps up to 50 MiB more than with AVX2.
    assert!(resident < 200, "{resident} MiB");
}

#[test]
fn a_model_that_is_missing_or_cut_short_is_named_before_anything_is_served() {
    build();
    let model = root().join("function/model/ssdlite_mobilenet_v2");
    let folder = tempfile::tempdir().expect("a folder");
    let up = |model: &Path| {
        let named = format!("ssdlite-mobilenet-v2={}", model.display());
        let output = run(&["up", "--profile", "accelerated", "--model", &named]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    assert!(up(folder.path()).contains("model.toml"), "{}", up(folder.path()));
    std::fs::copy(model.join("model.toml"), folder.path().join("model.toml")).expect("a copy");
    let network = std::fs::read(model.join("model.onnx")).expect("a network");
    std::fs::write(folder.path().join("model.onnx"), &network[..network.len() / 2]).expect("half");
    let said = up(folder.path());
    assert!(
        said.contains("the model `ssdlite-mobilenet-v2`") && said.contains("model.onnx"),
        "{said}"
    );
}

#[test]
fn an_image_of_the_profile_carries_its_model() {
    build();
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("image.tar");
    let path = archive.to_str().expect("a path");
    assert_ran(&run_in(folder.path(), &["image", "--profile", "accelerated", "-o", path]));
    let root = oci::unpack(&archive, folder.path()).root;
    let mut command = Command::new(spotter());
    command.arg("up").arg("-f").arg(&root).args(["--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    let picture = pictures::bytes("skimage_chelsea.png");
    let reply = client::post_picture(&server.url("/detect"), &picture).json();
    assert_eq!(reply["detections"][0]["label"], "cat", "{reply}");
}
