//! Machines with fewer resources than usual.

use spotter_tests::server::Server;
use spotter_tests::{client, component, pictures, root, under_limit};

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux limits addresses")]
fn where_address_space_is_scarce_instances_are_made_without_a_pool() {
    component();
    // A pool reserves hundreds of gigabytes of address space, though no memory.
    let mut command = under_limit(&format!("-v {}", 24 << 20));
    command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(root());
    let server = Server::spawn(command);
    server.wait_for_log("cannot reserve memory for a pool of instances");
    let reply = client::post_picture(&server.url("/detect"), &pictures::photograph());
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert!(!reply.json()["detections"].as_array().expect("detections").is_empty());
}
