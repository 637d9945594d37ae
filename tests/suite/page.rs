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

/// Starts the detector with a changed manifest.
fn start_changed(change: impl Fn(String) -> String, arguments: &[&str]) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest =
        std::fs::read_to_string(spotter_tests::root().join("spin.toml")).expect("a manifest");
    let source = spotter_tests::component().canonicalize().expect("a component");
    let manifest = manifest.replace("\"target/spotter/detector.wasm\"", &format!("{source:?}"));
    std::fs::write(folder.path().join("spin.toml"), change(manifest)).expect("a manifest");
    let mut command = std::process::Command::new(spotter_tests::spotter());
    command.args(["up", "--listen", "127.0.0.1:0"]).args(arguments).current_dir(folder.path());
    Server::spawn(command)
}

#[test]
fn the_page_is_off_on_an_exact_route_too() {
    let exact = |manifest: String| manifest.replace("route = \"/...\"", "route = \"/\"");
    let server = start_changed(exact, &["--variable", "page=off"]);
    let refused = client::get(&server.url("/"));
    assert_eq!((refused.status, refused.error_code().as_str()), (404, "no_route"));
    let cat = pictures::bytes("skimage_chelsea.png");
    assert_eq!(client::post_picture(&server.url("/"), &cat).status, 200);
}

#[test]
fn three_lines_of_the_manifest_turn_the_page_off() {
    let off = "\n[[trigger.http]]\nroute = \"/\"\nstatic_response = { status_code = 404 }\n";
    let server = start_changed(|manifest| manifest + off, &[]);
    assert_eq!(client::get(&server.url("/")).status, 404);
    let cat = pictures::bytes("skimage_chelsea.png");
    assert_eq!(client::post_picture(&server.url("/detect"), &cat).status, 200);
}

#[test]
fn one_variable_turns_the_page_off_and_nothing_else() {
    let server = Server::start(&["--variable", "page=off"]);
    for method in ["GET", "HEAD"] {
        assert_eq!(client::send(method, &server.url("/"), &[], b"").status, 404, "{method}");
    }
    assert_eq!(client::get(&server.url("/")).error_code(), "no_route");
    assert_eq!(client::get(&server.url("/labels")).status, 200);
    let cat = pictures::bytes("skimage_chelsea.png");
    // Hugging Face's clients post to the page's path.
    for path in ["/", "/detect"] {
        assert_eq!(client::post_picture(&server.url(path), &cat).status, 200, "{path}");
    }
    let refused = spotter_tests::run(&["up", "--variable", "page=no"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = spotter_tests::stderr(&refused);
    assert!(said.contains("\"no\"") && said.contains("`on` or `off`"), "{said}");
}

#[test]
fn the_origins_that_a_variable_names_and_no_others_may_read_replies() {
    let origins = "cross_origin=https://a.example, http://b.example:8080";
    let server = Server::start(&["--variable", origins, "--variable", "page=off"]);
    let cat = pictures::bytes("skimage_chelsea.png");
    let ask = |method: &str, path: &str, origin: &str, body: &[u8]| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        client::send(method, &server.url(path), &headers, body)
    };
    for origin in ["https://a.example", "http://b.example:8080"] {
        let preflight = ask("OPTIONS", "/detect", origin, b"");
        assert_eq!((preflight.status, preflight.body.len()), (204, 0));
        assert_eq!(preflight.header("access-control-allow-methods"), "POST");
        assert_eq!(preflight.header("access-control-allow-headers"), "content-type");
        // The component's errors and the host's can be read too.
        let replies = [
            ask("POST", "/detect", origin, &cat),
            ask("POST", "/detect", origin, b"no picture"),
            ask("GET", "/", origin, b""),
        ];
        assert_eq!(replies.each_ref().map(|reply| reply.status), [200, 422, 404]);
        for reply in replies.iter().chain([&preflight]) {
            assert_eq!(reply.header("access-control-allow-origin"), origin);
            let is_vary = |(name, value): &(String, String)| name == "vary" && value == "origin";
            assert!(reply.headers.iter().any(is_vary), "{:?}", reply.headers);
        }
    }
    for origin in ["https://c.example", "http://a.example", "https://a.example:444", "null"] {
        assert_eq!(ask("OPTIONS", "/detect", origin, b"").status, 405, "{origin}");
        let reply = ask("POST", "/detect", origin, &cat);
        assert_eq!((reply.status, reply.header("vary")), (200, "origin"), "{origin}");
        let allows = |(name, _): &(String, String)| name.starts_with("access-control-");
        assert!(!reply.headers.iter().any(allows), "{origin}: {:?}", reply.headers);
    }
    let server = Server::start(&["--variable", "cross_origin=*"]);
    let headers = [("origin", "https://c.example")];
    let reply = client::send("GET", &server.url("/labels"), &headers, b"");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
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
