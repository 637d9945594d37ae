//! The same component under another runtime.

use spotter_tests::peer::WasmtimeServe;
use spotter_tests::server::Server;
use spotter_tests::{client, component, pictures, root, spotter};

#[test]
fn the_component_runs_unchanged_under_wasmtime_serve() {
    let wasmtime = WasmtimeServe::start(component(), &[]);
    let url = wasmtime.url("/detect");
    let reply = client::post_picture(&url, &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.json()["detections"][0]["label"], "cat");
    let refused = client::post_picture(&url, b"not a picture at all, but long enough to be one");
    assert_eq!((refused.status, refused.error_code().as_str()), (422, "not_a_picture"));
}

#[test]
fn where_address_space_is_scarce_instances_are_made_without_a_pool() {
    component();
    let mut command = std::process::Command::new("prlimit");
    // A pool reserves hundreds of gigabytes of addresses, though no memory.
    command.arg(format!("--as={}", 24_u64 << 30)).arg(spotter());
    command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(root());
    let server = Server::spawn(command);
    server.wait_for_log("no pool of instances here");
    let reply = client::post_picture(&server.url("/detect"), &pictures::photograph());
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert!(!reply.json()["detections"].as_array().expect("detections").is_empty());
}
