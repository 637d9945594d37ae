//! Components receive requests, and send them, as they do under Spin.

use spotter_tests::application::Application;
use spotter_tests::client;
use spotter_tests::server::Server;

/// The component of many guests on `/guest/...`; its keys follow.
const GUEST: &str = r#"
[[trigger.http]]
route = "/guest/..."
component = "guest"
[component.guest]
source = "guest.wasm"
"#;

fn text(server: &Server, path: &str) -> String {
    String::from_utf8(client::get(&server.url(path)).body).expect("text")
}

fn fetch(server: &Server, url: &str) -> String {
    let reply = client::post_picture(&server.url("/guest/fetch"), url.as_bytes());
    String::from_utf8(reply.body).expect("text")
}

#[test]
fn a_parameters_header_has_hyphens() {
    let manifest = GUEST.replace("/guest/...", "/:user_id/:Other/...");
    let seen = text(&Application::new(&manifest).up(&[]), "/7/8/all-headers");
    assert!(seen.contains("spin-path-match-user-id: 7\n"), "{seen}");
    assert!(seen.contains("spin-path-match-other: 8\n"), "{seen}");
    assert!(seen.contains("spin-matched-route: /:user_id/:Other/...\n"), "{seen}");
}

#[test]
fn an_empty_segment_is_a_segment() {
    let server = Application::new(
        r#"
        [[trigger.http]]
        route = "/a/b"
        static_response = { body = "a/b" }
        [[trigger.http]]
        route = "/..."
        static_response = { body = "any" }
        "#,
    )
    .up(&[]);
    for (path, route) in [("/a/b", "a/b"), ("/a//b", "any"), ("/a/b/", "a/b"), ("//a/b", "a/b")] {
        assert_eq!(text(&server, path), route, "{path}");
    }
}

#[test]
fn spins_own_paths_answer_whatever_the_routes_are() {
    let server = Application::new(
        "version = \"1.2.3\"\n[[trigger.http]]\nroute = \"/...\"\nstatic_response = { body = \"any\" }\n",
    )
    .up(&[]);
    assert_eq!(text(&server, "/.well-known/spin/health"), "OK");
    let info = client::get(&server.url("/.well-known/spin/info"));
    assert_eq!((info.status, info.header("content-type")), (200, "application/json"));
    assert_eq!(info.json()["name"], "of-a-test");
    assert_eq!(info.json()["version"], "1.2.3");
    assert_eq!(client::get(&server.url("/.well-known/spin/other")).status, 404);
    assert_eq!(text(&server, "/.well-known/other"), "any");
}

#[test]
fn a_name_that_no_variable_can_have_is_told_from_one_that_is_not_set() {
    let said = text(&Application::new(GUEST).up(&[]), "/guest/invalid-variable");
    assert!(said.contains("InvalidName"), "{said}");
}

#[test]
fn a_network_can_be_allowed_by_its_addresses() {
    let other = Server::guests(&[]);
    let port = other.address().rsplit(':').next().expect("a port");
    let up = |hosts: &str| {
        Application::new(&format!("{GUEST}allowed_outbound_hosts = [\"{hosts}\"]")).up(&[])
    };
    let url = other.url("/guest/hello");
    assert_eq!(fetch(&up(&format!("http://127.1.2.3/8:{port}")), &url), "200 hello");
    let denied = fetch(&up(&format!("http://128.0.0.0/8:{port}")), &url);
    assert!(denied.contains("HttpRequestDenied"), "{denied}");
}

#[test]
fn a_url_without_a_host_is_the_applications_own() {
    let server = Server::guests(&[]);
    assert_eq!(fetch(&server, "/hello"), "200 hello");
    assert_eq!(fetch(&server, "/teapot"), "418 short and stout");
    assert_eq!(fetch(&server, "http://self.alt/hello"), "200 hello");
    let alone = Application::new(GUEST).up(&[]);
    assert!(fetch(&alone, "/guest/hello").contains("HttpRequestDenied"));
}

#[test]
fn a_guest_of_wasi_0_3_sees_the_host_that_the_request_is_for() {
    let server = Server::guests(&[]);
    assert_eq!(text(&server, "/p3/host"), server.address());
}
