//! Replies and bodies that take long continue as long as they make progress.

use std::time::{Duration, Instant};

use spotter_tests::server::Server;
use spotter_tests::{client, raw};

fn get(server: &Server, path: &str) -> std::net::TcpStream {
    let mut stream = raw::connect(server.address());
    let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    raw::send(&mut stream, head.as_bytes());
    stream
}

#[test]
fn events_go_on_beyond_the_time_limit_and_those_that_stall_are_cut_off() {
    let server = Server::guests(&["--request-timeout", "800ms"]);
    let began = Instant::now();
    let (mut lively, mut stalled) =
        (get(&server, "/guest/events/12/200"), get(&server, "/guest/events/2/1200"));
    let reply = raw::read_to_end(&mut lively);
    assert!(began.elapsed() > Duration::from_millis(2300), "{:?}", began.elapsed());
    assert_eq!(reply.matches("data: ").count(), 12, "{reply}");
    assert!(reply.ends_with("0\r\n\r\n"), "{reply}");
    let reply = raw::read_to_end(&mut stalled);
    assert!(reply.starts_with("HTTP/1.1 200") && !reply.contains("data: "), "{reply}");
    assert!(!reply.ends_with("0\r\n\r\n"), "{reply}");
    assert_eq!(server.metric("spotter_guest_failures_total{reason=\"request_timeout\"}"), 1.0);
}

#[test]
fn nobody_reads_what_follows_the_header_of_a_head_so_it_counts_as_no_progress() {
    let server = Server::guests(&["--request-timeout", "800ms"]);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, b"HEAD /guest/events/1000/100 HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(raw::read_some(&mut stream).starts_with("HTTP/1.1 200"));
    server.wait_for_metric("spotter_guest_failures_total{reason=\"request_timeout\"}", 1.0);
    server.wait_for_metric("spotter_instances", 0.0);
}

/// Begins to send a body of five bytes.
fn begin_post(server: &Server, path: &str) -> std::net::TcpStream {
    let mut stream = raw::connect(server.address());
    let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    raw::send(&mut stream, format!("{head}content-length: 5\r\n\r\nabc").as_bytes());
    stream
}

/// Reads until the reply contains this text.
fn read_until(stream: &mut std::net::TcpStream, text: &str) -> String {
    let mut reply = String::new();
    while !reply.contains(text) {
        let more = raw::read_some(stream);
        assert!(!more.is_empty(), "the connection ended after {reply:?}");
        reply += &more;
    }
    reply
}

#[test]
fn an_echo_answers_while_the_body_is_still_sent() {
    let server = Server::guests(&[]);
    for path in ["/guest/echo", "/p3/echo"] {
        let began = Instant::now();
        let mut stream = begin_post(&server, path);
        let reply = read_until(&mut stream, "abc");
        assert!(reply.starts_with("HTTP/1.1 200"), "{path}: {reply}");
        assert!(began.elapsed() < Duration::from_secs(5), "{path}: {:?}", began.elapsed());
        raw::send(&mut stream, b"de");
        let rest = raw::read_to_end(&mut stream);
        assert!(rest.contains("de") && rest.ends_with("0\r\n\r\n"), "{path}: {rest}");
    }
}

#[test]
fn many_bodies_that_stall_leave_instances_and_memory_to_others() {
    let server = Server::guests(&["--instances", "1", "--queue-length", "1"]);
    let mut stalled: Vec<_> = (0..60).map(|_| begin_post(&server, "/guest/length")).collect();
    // A quarter of 64 instances may start early.
    server.wait_for_metric("spotter_instances_waiting", 16.0);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(server.metric("spotter_instances"), 16.0);
    for _ in 0..10 {
        assert_eq!(client::post_picture(&server.url("/guest/length"), b"1234").body, b"4");
    }
    for stream in &mut stalled {
        raw::send(stream, b"de");
        let reply = raw::read_to_end(stream);
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
}
