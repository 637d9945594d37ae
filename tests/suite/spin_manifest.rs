//! Spin's manifest: what an application asks for is granted, or refused by name.

use spotter_tests::server::Server;
use spotter_tests::{client, component, raw, run, stderr};

fn text(server: &Server, path: &str) -> String {
    String::from_utf8(client::get(&server.url(path)).body).expect("text")
}

#[test]
fn environment_variables_and_files_reach_the_component() {
    let server = Server::guests(&[]);
    assert_eq!(text(&server, "/guest/environment"), "good morning");
    assert_eq!(text(&server, "/guest/variable"), "hello world");
    assert_eq!(text(&server, "/guest/file"), "a file's text\n");
    let server = Server::guests(&["--variable", "name=moon", "--env", "GREETING=good night"]);
    assert_eq!(text(&server, "/guest/environment"), "good night");
    assert_eq!(text(&server, "/guest/variable"), "hello moon");
}

#[test]
fn a_profile_takes_the_place_of_a_components_own_settings() {
    let server = Server::guests(&["--profile", "evening"]);
    assert_eq!(text(&server, "/guest/environment"), "good evening");
    assert_eq!(text(&server, "/guest/variable"), "hello world");
}

#[test]
fn a_variable_that_is_not_declared_is_refused() {
    let output = run(&["up", "-f", "tests/guests", "--variable", "nane=moon"]);
    assert!(stderr(&output).contains("did you mean `name`?"), "{}", stderr(&output));
}

#[test]
fn a_static_response_needs_no_component() {
    let server = Server::guests(&[]);
    let reply = client::get(&server.url("/teapot"));
    assert_eq!((reply.status, reply.header("x-kind")), (418, "teapot"));
    assert_eq!(reply.body, b"short and stout");
}

#[test]
fn a_single_component_is_an_application_of_itself() {
    let mut command = std::process::Command::new(spotter_tests::spotter());
    command.args(["up", "-f"]).arg(component()).args(["--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    assert_eq!(client::get(&server.url("/healthz")).status, 200);
}

#[test]
fn a_store_outlives_requests_and_restarts_and_only_the_granted_one_opens() {
    let state = tempfile::tempdir().expect("a folder");
    let arguments = ["--state-dir", state.path().to_str().expect("a path")];
    let server = Server::guests(&arguments);
    assert_eq!(text(&server, "/guest/store"), "1 [\"count\"]");
    assert_eq!(text(&server, "/guest/store"), "2 [\"count\"]");
    assert!(text(&server, "/guest/other-store").to_lowercase().contains("denied"));
    drop(server);
    assert_eq!(text(&Server::guests(&arguments), "/guest/store"), "3 [\"count\"]");
}

#[test]
fn values_for_the_default_store_can_be_given_at_the_start() {
    let server = Server::guests(&["--key-value", "count=41"]);
    assert_eq!(text(&server, "/guest/store"), "42 [\"count\"]");
}

#[test]
fn a_quiet_server_logs_requests_but_not_what_guests_write() {
    let server = Server::guests(&["--quiet"]);
    client::get(&server.url("/guest/trap"));
    server.wait_for_log("/guest/trap");
    assert!(!server.log().contains("about to trap"), "{}", server.log());
}

#[test]
fn a_component_reaches_the_hosts_its_manifest_names_and_no_other() {
    let other = Server::guests(&[]);
    let port = other.address().rsplit(':').next().expect("a port");
    let server = Server::guests(&["--variable", &format!("port={port}")]);
    let fetch = |url: &str| {
        let reply = client::post_picture(&server.url("/guest/fetch"), url.as_bytes());
        String::from_utf8(reply.body).expect("text")
    };
    assert_eq!(fetch(&other.url("/guest/hello")), "200 hello");
    // Another port, another name of the same address, and a private address behind a wildcard.
    assert!(
        fetch(&server.url("/guest/hello")).contains("HttpRequestDenied"),
        "{}",
        fetch(&server.url("/"))
    );
    assert!(fetch(&format!("http://localhost:{port}/guest/hello")).contains("HttpRequestDenied"));
    let wildcard = fetch(&format!("http://any.localhost:{port}/guest/hello"));
    assert!(
        wildcard.contains("DestinationIpProhibited") || wildcard.contains("DestinationNotFound"),
        "{wildcard}"
    );
    server.wait_for_log("allowed_outbound_hosts");
}

#[test]
fn components_call_each_other_by_name_and_only_where_the_manifest_allows() {
    let server = Server::guests(&[]);
    let fetch = |url: &str| {
        let reply = client::post_picture(&server.url("/guest/fetch"), url.as_bytes());
        String::from_utf8(reply.body).expect("text")
    };
    // A private component has no route, but can be called by name.
    assert_eq!(fetch("http://hidden.spin.internal/any/path"), "200 hello");
    assert_eq!(fetch("http://self/hello"), "200 hello");
    assert_eq!(fetch("http://self/teapot"), "418 short and stout");
    assert_eq!(fetch("http://guest.spin.internal/environment"), "200 good morning");
    assert!(fetch("http://hello.spin.internal/").contains("HttpRequestDenied"));
    assert_eq!(client::get(&server.url("/hidden")).status, 404);
    assert!(
        server.metric("spotter_requests_total{route=\"hidden.spin.internal\",status=\"200\"}")
            >= 1.0
    );
}

#[test]
fn a_component_that_calls_itself_comes_to_an_end_also_beside_another() {
    let server = Server::guests(&["--instances", "2"]);
    std::thread::scope(|scope| {
        let call = || assert!(text(&server, "/guest/call-myself").contains("LoopDetected"));
        (0..2).for_each(|_| drop(scope.spawn(call)));
    });
    assert_eq!(text(&server, "/guest/hello"), "hello");
}

#[test]
fn a_component_of_wasi_0_3_passes_a_body_on_and_sees_a_client_go() {
    let server = Server::guests(&[]);
    let body: Vec<u8> = (0..1_u32 << 20).map(|index| (index % 251) as u8).collect();
    let reply = client::post_picture(&server.url("/p3/echo"), &body);
    assert_eq!(reply.status, 200);
    assert!(reply.body == body, "{} bytes came back of {}", reply.body.len(), body.len());
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, b"GET /p3/wait HTTP/1.1\r\nhost: test\r\n\r\n");
    server.wait_for_metric("spotter_instances", 1.0);
    drop(stream);
    server.wait_for_metric("spotter_instances", 0.0);
}

#[test]
fn outgoing_requests_of_wasi_0_3_are_sent_where_the_manifest_allows() {
    let other = Server::guests(&[]);
    let port = other.address().rsplit(':').next().expect("a port");
    let server = Server::guests(&["--variable", &format!("port={port}")]);
    let fetch = |from: &str| client::post_picture(&server.url("/p3/fetch"), from.as_bytes());
    assert_eq!(fetch(other.address()).body, b"hello");
    let denied = fetch(server.address());
    assert_eq!((denied.status, denied.error_code().as_str()), (500, "guest_no_response"));
    server.wait_for_log("HttpRequestDenied");
}

#[test]
fn components_of_wasi_0_3_run_beside_those_of_0_2() {
    let server = Server::guests(&["--request-cpu", "300ms"]);
    let post = |path: &str, body: &[u8]| client::post_picture(&server.url(path), body);
    let reply = post("/p3/any", &vec![1; 300_000]);
    assert_eq!(String::from_utf8_lossy(&reply.body), "300000 bytes, by WASI 0.3");
    for (path, status, code) in [
        ("/p3/trap", 500, "guest_trapped"),
        ("/p3/loop", 504, "cpu_limit_exceeded"),
        ("/p3/error", 500, "guest_no_response"),
    ] {
        let reply = post(path, b"");
        assert_eq!((reply.status, reply.error_code().as_str()), (status, code), "{path}");
    }
    assert_eq!(post("/p3/any", b"").body, b"0 bytes, by WASI 0.3");
    assert_eq!(text(&server, "/guest/hello"), "hello");
}

#[test]
fn a_host_cannot_change_the_path_that_a_guest_sees() {
    let server = Server::guests(&[]);
    let mut stream = raw::connect(server.address());
    raw::send(
        &mut stream,
        b"GET /guest/headers HTTP/1.1\r\nhost: x/guest/canary?\r\nconnection: close\r\n\r\n",
    );
    let reply = raw::read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 400") && reply.contains("is not a host"), "{reply}");
}
