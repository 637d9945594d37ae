//! HTTP/1.1 on a connection: how long it stays open, and which host a request is for (RFC 9112).

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spotter_tests::raw;
use spotter_tests::server::Server;

const GET: &[u8] = b"GET /guest/hello HTTP/1.1\r\nhost: test\r\n\r\n";

/// Reads a reply whose body is `hello`.
fn read_hello(stream: &mut TcpStream) {
    let mut reply = String::new();
    while !reply.contains("hello") {
        let more = raw::read_some(stream);
        assert!(!more.is_empty(), "the connection ended after {reply:?}");
        reply += &more;
    }
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[test]
fn an_idle_connection_takes_another_request_and_ends_without_a_reset() {
    const KEEP_ALIVE: Duration = Duration::from_millis(1200);
    let server = Server::guests(&["--header-timeout", "300ms", "--keep-alive-timeout", "1200ms"]);
    let mut stream = raw::connect(server.address());
    for _ in 0..3 {
        raw::send(&mut stream, GET);
        read_hello(&mut stream);
        // Longer than a header may take.
        std::thread::sleep(Duration::from_millis(700));
    }
    let began = Instant::now();
    let end = stream.read(&mut [0; 16]).expect("the end of the stream, not a reset");
    assert_eq!(end, 0);
    let idle = began.elapsed() + Duration::from_millis(700);
    assert!(idle > KEEP_ALIVE - Duration::from_millis(100), "{idle:?}");
    assert!(idle < KEEP_ALIVE * 3, "{idle:?}");
}

/// Sends a `GET`, closes this side of the connection, and reads the reply.
fn ask_and_close(address: &str, path: &str) -> String {
    let mut stream = raw::connect(address);
    raw::send(&mut stream, format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes());
    stream.shutdown(std::net::Shutdown::Write).expect("a half-closed connection");
    // The end of the stream is there before the client reads.
    std::thread::sleep(Duration::from_millis(50));
    raw::read_to_end(&mut stream)
}

#[test]
fn a_client_that_closes_its_side_after_the_request_gets_its_reply() {
    let server = Server::guests(&[]);
    let admin = server.admin_url("");
    for (path, body) in
        [("/guest/hello", "hello"), ("/guest/wait/50/0", "waited"), ("/teapot", "short")]
    {
        // In one attempt, the reply may win the race against the end of the stream.
        for _ in 0..10 {
            let reply = ask_and_close(server.address(), path);
            assert!(reply.contains(body), "{path}: {reply:?}");
            let reply = ask_and_close(admin.trim_start_matches("http://"), "/healthz");
            assert!(reply.starts_with("HTTP/1.1 200"), "{reply:?}");
        }
    }
    // A reply that is larger than the socket's buffer.
    let large = ask_and_close(server.address(), "/guest/large");
    assert!(large.len() > 16 << 20 && large.ends_with("\r\n0\r\n\r\n"), "{} bytes", large.len());
    assert_eq!(ask_and_close(server.address(), "/guest/never-reply"), "");
    server.wait_for_metric("spotter_guest_failures_total{reason=\"client_gone\"}", 1.0);
}

#[test]
fn a_later_header_that_is_too_slow_is_answered_with_408() {
    let server = Server::guests(&["--header-timeout", "300ms"]);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, GET);
    read_hello(&mut stream);
    std::thread::sleep(Duration::from_millis(500));
    raw::send(&mut stream, b"GET /guest/hello HTTP/1.1\r\nho");
    let reply = raw::read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("header_timeout"), "{reply}");
}

/// The reply to a request with this first line and these headers.
fn ask(server: &Server, line: &str, headers: &str) -> String {
    let mut stream = raw::connect(server.address());
    let request = format!("{line}\r\n{headers}connection: close\r\n\r\n");
    raw::send(&mut stream, request.as_bytes());
    raw::read_to_end(&mut stream)
}

#[test]
fn a_request_names_one_host_or_is_refused() {
    let server = Server::guests(&[]);
    for path in ["/guest/url", "/teapot", "/nowhere"] {
        let get = format!("GET {path} HTTP/1.1");
        for headers in ["", "host: a\r\nhost: a\r\n", "host: a/b\r\n", "host: user@a\r\n"] {
            let reply = ask(&server, &get, headers);
            assert!(
                reply.starts_with("HTTP/1.1 400") && reply.contains("\"bad_request\""),
                "{path} {headers:?}: {reply}"
            );
        }
    }
    // HTTP/1.0 has no such rule.
    let old = ask(&server, "GET /guest/hello HTTP/1.0", "");
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
}

#[test]
fn the_host_in_the_target_goes_before_the_header() {
    let server = Server::guests(&[]);
    let reply =
        ask(&server, "GET http://target.test:81/guest/url?a=b HTTP/1.1", "host: header.test\r\n");
    assert!(reply.contains("http://target.test:81/guest/url?a=b"), "{reply}");
    let reply = ask(&server, "GET /guest/url?a=b HTTP/1.1", "host: header.test\r\n");
    assert!(reply.contains("http://header.test/guest/url?a=b"), "{reply}");
}
