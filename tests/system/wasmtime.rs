//! The same component under another runtime.

use spotter_tests::peer::WasmtimeServe;
use spotter_tests::{client, component, pictures};

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_component_runs_unchanged_under_wasmtime_serve() {
    let wasmtime = WasmtimeServe::start(component(), &[]);
    let url = wasmtime.url("/detect");
    let reply = client::post_picture(&url, &pictures::bytes("skimage_chelsea.png"));
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.json()["detections"][0]["label"], "cat");
    let refused = client::post_picture(&url, b"not a picture at all, but long enough to be one");
    assert_eq!((refused.status, refused.error_code().as_str()), (422, "not_a_picture"));
}
