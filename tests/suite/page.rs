//! The page, the API description, and what browsers of other origins may do.

use serde_json::Value;
use spotter_tests::client;
use spotter_tests::pictures;
use spotter_tests::server::Server;

fn url(path: &str) -> String {
    Server::shared().url(path)
}

#[test]
fn the_page_has_no_script_or_style_of_its_own_and_names_no_other_host() {
    let page = client::get(&url("/"));
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = String::from_utf8(page.body).expect("text");
    let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
    assert!(!html.split_whitespace().any(is_handler), "{html}");
    assert!(!html.contains("style=") && !html.contains("<style"), "{html}");
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/openapi.json", "application/json"),
    ] {
        let file = client::get(&url(path));
        assert_eq!((file.status, file.header("content-type")), (200, content_type), "{path}");
        assert_eq!(file.header("x-content-type-options"), "nosniff", "{path}");
        let text =
            String::from_utf8(file.body).expect("text").replace("http://www.w3.org/2000/svg", "");
        let names_a_host =
            text.contains("http://") || text.contains("https://") || text.contains("//cdn");
        assert!(!names_a_host || path == "/openapi.json", "{path}");
    }
}

#[test]
fn three_lines_of_the_manifest_turn_the_page_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest =
        std::fs::read_to_string(spotter_tests::root().join("spin.toml")).expect("a manifest");
    let source = spotter_tests::component().canonicalize().expect("a component");
    let off = "\n[[trigger.http]]\nroute = \"/\"\nstatic_response = { status_code = 404 }\n";
    let manifest =
        manifest.replace("\"target/spotter/detector.wasm\"", &format!("{source:?}")) + off;
    std::fs::write(folder.path().join("spin.toml"), manifest).expect("a manifest");
    let mut command = std::process::Command::new(spotter_tests::spotter());
    command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(folder.path());
    let server = Server::spawn(command);
    assert_eq!(client::get(&server.url("/")).status, 404);
    let cat = pictures::bytes("skimage_chelsea.png");
    assert_eq!(client::post_picture(&server.url("/detect"), &cat).status, 200);
}

#[test]
fn browsers_of_other_origins_may_read_nothing() {
    let origin = ("origin", "https://example.com");
    let preflight = [origin, ("access-control-request-method", "POST")];
    let cat = pictures::bytes("skimage_chelsea.png");
    for path in ["/detect", "/v1/vision/detection", "/", "/infer/object_detection"] {
        let reply = client::send("OPTIONS", &url(path), &preflight, b"");
        assert_eq!(reply.status, 405, "{path}");
        for reply in [reply, client::send("POST", &url(path), &[origin], &cat)] {
            let allows = |(name, _): &(String, String)| name.starts_with("access-control-");
            assert!(!reply.headers.iter().any(allows), "{path}: {:?}", reply.headers);
        }
    }
}

#[test]
fn every_path_of_the_description_exists() {
    let document = client::get(&url("/openapi.json")).json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 15, "{:?}", paths.keys());
    for (path, operations) in paths {
        let path = path.replace("{model}", "ssdlite_mobilenet_v2").replace("{version}", "1");
        for method in operations.as_object().unwrap_or_else(|| panic!("{path}")).keys() {
            let reply = client::send(&method.to_uppercase(), &url(&path), &[], b"");
            // A `POST` without a body is refused, but not for its path.
            assert!(![404, 405].contains(&reply.status), "{method} {path}: {}", reply.status);
            let documented: &Value = &operations[method]["responses"];
            assert!(
                !documented[reply.status.to_string()].is_null(),
                "{method} {path} {}",
                reply.status
            );
        }
    }
}
