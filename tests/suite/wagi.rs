//! The executor `wagi`: commands that run as CGI programs (RFC 3875), under the limits of every guest.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spotter_runtime::compile::wrap::{Adapter, wrap};
use spotter_tests::application::Application;
use spotter_tests::client::{self, Reply};
use spotter_tests::server::Server;
use spotter_tests::stderr;

const CGI: &str = r#"
[[trigger.http]]
route = "/cgi/..."
component = "cgi"
executor = { type = "wagi" }
[component.cgi]
source = "cgi.wasm"
environment = { GREETING = "good day", SERVER_SOFTWARE = "of the manifest" }
files = [{ source = "texts", destination = "/texts" }]
[component.cgi.variables]
"#;

fn application() -> Application {
    Application::new(CGI).with("texts/one.txt", "a file's text")
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).expect("text")
}

#[test]
fn a_program_gets_the_request_in_its_environment_and_on_standard_input() {
    let server = application().up(&[]);
    let headers = [
        ("content-type", "text/plain"),
        ("x-custom", "of the client"),
        ("authorization", "Bearer secret"),
        ("proxy", "http://evil.example.com"),
        ("spin-full-url", "forged"),
        ("server-software", "forged"),
    ];
    let reply =
        client::send("POST", &server.url("/cgi/environment?a=1&b=%20"), &headers, b"a body");
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain"));
    let (host, port) = server.address().rsplit_once(':').expect("a port");
    let url = server.url("/cgi/environment?a=1&b=%20");
    for line in [
        "GATEWAY_INTERFACE=CGI/1.1",
        "REQUEST_METHOD=POST",
        "QUERY_STRING=a=1&b=%20",
        "CONTENT_LENGTH=6",
        "CONTENT_TYPE=text/plain",
        "SCRIPT_NAME=/cgi",
        "PATH_INFO=/environment",
        "SERVER_PROTOCOL=HTTP/1.1",
        "REMOTE_ADDR=127.0.0.1",
        "HTTP_X_CUSTOM=of the client",
        "X_MATCHED_ROUTE=/cgi/...",
        "GREETING=good day",
        "SERVER_SOFTWARE=of the manifest",
        &format!("SERVER_NAME={host}"),
        &format!("SERVER_PORT={port}"),
        &format!("X_FULL_URL={url}"),
        &format!("HTTP_SPIN_FULL_URL={url}"),
    ] {
        assert!(text(&reply).lines().any(|own| own == line), "no {line} in {}", text(&reply));
    }
    for hidden in ["secret", "HTTP_PROXY", "forged\nSERVER", "X_FULL_URL=forged"] {
        assert!(!text(&reply).contains(hidden), "{hidden} in {}", text(&reply));
    }
    let body = vec![7; 1 << 20];
    let length = client::send("POST", &server.url("/cgi/length"), &[], &body);
    assert_eq!(text(&length), "1048576 1048576");
    assert_eq!(client::send("POST", &server.url("/cgi/echo"), &[], &body).body, body);
    assert_eq!(text(&client::get(&server.url("/cgi/file"))), "a file's text");
    assert_eq!(text(&client::get(&server.url("/cgi/other%20path"))), "hello from /other path");
}

#[test]
fn a_body_of_unknown_length_is_received_before_the_program_starts() {
    let server = application().up(&[]);
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream
        .write_all(b"POST /cgi/length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n")
        .expect("a part");
    // Longer than an instance that streams its body would wait to start.
    std::thread::sleep(Duration::from_millis(700));
    stream.write_all(b"6\r\n world\r\n0\r\n\r\n").expect("the rest");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(reply.contains("11 11"), "{reply}");
}

#[test]
fn arguments_follow_the_triggers_template() {
    let server = application().up(&[]);
    let arguments = |server: &Server| {
        let reply = client::get(&server.url("/cgi/arguments?x=1&y=2"));
        text(&reply).replace('\n', " ")
    };
    assert_eq!(arguments(&server), "/cgi/arguments x=1 y=2");
    let manifest = CGI.replace(
        r#"type = "wagi" "#,
        r#"type = "wagi", argv = "main.php -f ${SCRIPT_NAME} ${ARGS} last", entrypoint = "_start" "#,
    );
    let server = Application::new(&manifest).with("texts/one.txt", "").up(&[]);
    assert_eq!(arguments(&server), "main.php -f /cgi/arguments x=1 y=2 last");
}

#[test]
fn the_programs_header_becomes_the_replys() {
    let server = application().up(&[]);
    let get = |path: &str| client::get(&server.url(&format!("/cgi/{path}")));
    let missing = get("missing");
    assert_eq!((missing.status, text(&missing)), (404, "nothing here"));
    let cookies = missing.headers.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["a=1", "b=2"]);
    let mut moved = TcpStream::connect(server.address()).expect("a connection");
    moved
        .write_all(b"GET /cgi/moved HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let mut reply = String::new();
    moved.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 302 Found\r\n"), "{reply}");
    assert!(reply.to_lowercase().contains("location: /elsewhere\r\n"), "{reply}");
    assert_eq!(text(&get("smuggled")), "plain");
    assert_eq!(text(&get("exit-0")), "done");
    assert_eq!(get("large").body.len(), 16 << 20);
    let head = client::send("HEAD", &server.url("/cgi/missing"), &[], b"");
    assert_eq!((head.status, head.body.len()), (404, 0));
}

#[test]
fn a_reply_streams_while_its_program_runs() {
    let server = application().up(&[]);
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream
        .write_all(b"GET /cgi/events HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .expect("a request");
    let began = Instant::now();
    let mut arrived = Vec::new();
    while !String::from_utf8_lossy(&arrived).contains("data: 0") {
        let mut part = [0; 1024];
        let length = stream.read(&mut part).expect("a part");
        assert!(length > 0, "{}", String::from_utf8_lossy(&arrived));
        arrived.extend_from_slice(&part[..length]);
    }
    let first = began.elapsed();
    stream.read_to_end(&mut arrived).expect("the rest");
    assert!(String::from_utf8_lossy(&arrived).contains("data: 2"));
    assert!(began.elapsed() > first + Duration::from_millis(700), "all came at once");
}

#[test]
fn a_program_that_fails_is_an_error_with_a_reason_in_the_log() {
    let server = application().up(&["--request-cpu", "1s", "--instance-memory", "64MiB"]);
    let get = |path: &str| client::get(&server.url(&format!("/cgi/{path}")));
    for (path, code, logged) in [
        ("silent", "guest_no_response", "ended without a blank line"),
        ("no-header", "guest_no_response", "has no colon"),
        ("exit-at-once", "guest_trapped", "exit status 1"),
    ] {
        let reply = get(path);
        assert_eq!((reply.status, reply.error_code().as_str()), (500, code), "{path}");
        server.wait_for_log(logged);
    }
    assert_eq!(get("loop").error_code(), "cpu_limit_exceeded");
    assert_eq!(get("grow").error_code(), "memory_limit_exceeded");
    // Its reply had begun, so only its end can tell.
    let half = client::try_send("GET", &server.url("/cgi/exit-3"), &[], b"");
    assert!(half.is_err(), "{half:?}");
    let large = client::send("POST", &server.url("/cgi/length"), &[], &vec![0; 11 << 20]);
    assert_eq!((large.status, large.error_code().as_str()), (413, "body_too_large"));
    assert_eq!(text(&get("still-there")), "hello from /still-there");
}

#[test]
fn a_command_that_is_a_component_runs_too_and_what_is_none_is_refused() {
    let application = application();
    let module = std::fs::read(application.folder().join("cgi.wasm")).expect("a module");
    let component = wrap(&module, Adapter::Command).expect("a component");
    let application = application.with("cgi.wasm", component);
    assert_eq!(text(&client::get(&application.up(&[]).url("/cgi/a"))), "hello from /a");

    let said = |manifest: &str| {
        let application = Application::new(manifest).with("texts/one.txt", "");
        stderr(&application.run(&["check"]))
    };
    for (manifest, reason) in [
        (CGI.replace("cgi.wasm", "hello.wasm"), "the executor `wagi` needs a command"),
        (CGI.replace(r#"executor = { type = "wagi" }"#, ""), "exports neither wasi:http"),
        (CGI.replace(r#""wagi" "#, r#""wagi", entrypoint = "main" "#), "`entrypoint` \"main\""),
        (CGI.replace(r#""wagi" "#, r#""wagi", arg = "x" "#), "did you mean `argv`?"),
        (CGI.replace(r#""wagi" "#, r#""http", argv = "x" "#), "only the executor `wagi`"),
        (
            format!("[[trigger.http]]\nroute = \"/other\"\ncomponent = \"cgi\"\n{CGI}"),
            "different executors",
        ),
    ] {
        let said = said(&manifest);
        assert!(said.contains(reason), "{said} lacks {reason}");
    }
    // A command without the executor says how to run it.
    let said = stderr(&application.run(&["check", "-f", "cgi.wasm"]));
    assert!(said.contains("give its trigger the executor `wagi`"), "{said}");
}
