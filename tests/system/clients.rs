//! Unchanged clients of other servers, from PyPI, get from Spotter the same detections as `POST /detect`.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use spotter_tests::found::{self, Found};
use spotter_tests::server::Server;
use spotter_tests::{peer, pictures, root};

const PICTURE: &str = "skimage_coffee.png";
const MODEL: &str = "ssdlite_mobilenet_v2";

/// The clients, in versions that work together.
fn packages() -> PathBuf {
    peer::python_packages(
        "detection-clients",
        &[
            "deepstack-python==0.9",
            "deepstack-sdk==0.2.1",
            "huggingface_hub==2.4.0",
            "inference-sdk==1.8.3",
            "tritonclient[http]==2.73.0",
        ],
    )
}

/// Triton's client for gRPC, which brings a large package.
fn grpc_packages() -> PathBuf {
    peer::python_packages("grpc-client", &["tritonclient[grpc]==2.73.0"])
}

/// Runs `tests/clients/SCRIPT`, which prints what its client found with a threshold of 0.3.
fn finds_the_same(script: &str) {
    finds_the_same_with(script, packages());
}

fn finds_the_same_with(script: &str, packages: PathBuf) {
    let server = Server::shared();
    let output = Command::new("python3")
        .arg(root().join("tests/clients").join(script))
        .arg(server.address())
        .arg(root().join("tests/pictures").join(PICTURE))
        .arg(MODEL)
        .env("PYTHONPATH", packages)
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .output()
        .expect("python3 starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let theirs: Vec<Found> = found::of_list(&printed, |entry| {
        let corners = &entry["corners"];
        let corners = [&corners[0], &corners[1], &corners[2], &corners[3]];
        (&entry["label"], &entry["confidence"], corners)
    });
    let query = "min_confidence=0.3&iou_threshold=0.5";
    let ours = found::by_detect(&server.url(""), query, &pictures::bytes(PICTURE));
    found::assert_same(&ours, &theirs);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn deepstacks_clients_find_what_detect_finds() {
    finds_the_same("deepstack_client.py");
    finds_the_same("deepstack_sdk_client.py");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn tritons_client_finds_what_detect_finds() {
    finds_the_same("triton_client.py");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn tritons_client_over_grpc_finds_what_detect_finds() {
    finds_the_same_with("triton_grpc_client.py", grpc_packages());
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn hugging_faces_client_finds_what_detect_finds() {
    finds_the_same("hugging_face_client.py");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn roboflows_client_finds_what_detect_finds() {
    finds_the_same("roboflow_client.py");
}
