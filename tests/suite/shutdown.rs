//! On SIGTERM and SIGINT, the server stops being ready, finishes the requests in flight, and exits with 0.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use spotter_tests::server::Server;
use spotter_tests::{client, pictures, raw, spotter};

/// A detection takes about a tenth of a second, which is long enough to send a signal before it ends.
fn detection_in_flight(server: &Server) -> std::net::TcpStream {
    let picture = pictures::bytes("skimage_chelsea.png");
    let head = format!(
        "POST /detect HTTP/1.1\r\nhost: test\r\ncontent-type: image/png\r\ncontent-length: {}\r\n\r\n",
        picture.len()
    );
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, head.as_bytes());
    raw::send(&mut stream, &picture);
    stream
}

#[test]
fn what_is_in_flight_is_finished_on_sigterm_and_sigint() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&["--admin", "127.0.0.1:0"]);
        let mut streams: Vec<_> = (0..4).map(|_| detection_in_flight(&server)).collect();
        std::thread::sleep(Duration::from_millis(50));
        server.signal(signal);
        for stream in &mut streams {
            let reply = raw::read_to_end(stream);
            assert!(
                reply.starts_with("HTTP/1.1 200") && reply.contains("\"cat\""),
                "{signal}: {reply}"
            );
        }
        assert_eq!(server.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn readiness_fails_at_once_and_new_connections_are_refused() {
    let mut server = Server::guests(&["--request-timeout", "2s"]);
    assert_eq!(client::get(&server.admin_url("/readyz")).status, 200);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, b"GET /guest/never-reply HTTP/1.1\r\nhost: test\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    server.signal("TERM");
    server.wait_for_log("stopping");
    let ready = client::get(&server.admin_url("/readyz"));
    assert_eq!((ready.status, ready.body.as_slice()), (503, b"stopping\n".as_slice()));
    assert_eq!(client::get(&server.admin_url("/healthz")).status, 200);
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    assert!(raw::read_to_end(&mut stream).starts_with("HTTP/1.1 504"));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_grace_period_and_a_second_signal_end_the_wait() {
    for signals in [1, 2] {
        let grace = if signals == 1 { "500ms" } else { "30s" };
        let mut server = Server::guests(&["--grace", grace]);
        let mut stream = raw::connect(server.address());
        raw::send(&mut stream, b"GET /guest/never-reply HTTP/1.1\r\nhost: test\r\n\r\n");
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        for _ in 0..signals {
            server.signal("TERM");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(server.wait().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

#[test]
fn a_guest_that_works_on_after_its_reply_is_waited_for() {
    let mut server = Server::guests(&[]);
    assert_eq!(client::get(&server.url("/guest/work-on")).body, b"replied");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    server.wait_for_log("worked on after its reply");
}

#[test]
fn requests_that_arrived_before_the_signal_are_answered() {
    const GET: &[u8] = b"GET /guest/hello HTTP/1.1\r\nhost: test\r\n\r\n";
    let mut server = Server::guests(&["--queue-length", "200", "--queue-timeout", "20s"]);
    let connect = |_| raw::connect(server.address());
    let mut streams: Vec<_> = (0..25).map(connect).collect();
    for stream in &mut streams {
        raw::send(stream, GET);
        assert!(raw::read_some(stream).starts_with("HTTP/1.1 200"));
    }
    // While the server is stopped, requests arrive on connections that are open, and on new ones.
    server.signal("STOP");
    streams.extend((0..50).map(connect));
    streams.iter_mut().for_each(|stream| raw::send(stream, GET));
    server.signal("TERM");
    server.signal("CONT");
    let replies = streams.iter_mut().map(raw::read_to_end);
    let lost = replies.filter(|reply| !reply.contains("HTTP/1.1 200")).count();
    assert_eq!(lost, 0, "of {}", streams.len());
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_hangup_stops_nothing() {
    let server = Server::guests(&[]);
    server.signal("HUP");
    server.wait_for_log("SIGHUP is ignored");
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
}

#[test]
fn a_stopped_server_has_removed_its_files_and_closed_its_store() {
    let (temporary, state) = [(); 2].map(|()| tempfile::tempdir().expect("a folder")).into();
    let start = || {
        let mut command = Command::new(spotter());
        command.env("TMPDIR", temporary.path());
        let state = state.path().to_str().expect("a path");
        Server::guests_by(command, &["--state-dir", state, "--grace", "300ms"])
    };
    let entries = |folder: &Path| std::fs::read_dir(folder).expect("a folder").count();
    for requests in ["1", "2"] {
        let mut server = start();
        let stored = client::get(&server.url("/guest/store")).body;
        assert_eq!(stored, format!("{requests} [\"count\"]").as_bytes());
        assert!(!server.log().contains("repairing"), "{}", server.log());
        assert_ne!(entries(temporary.path()), 0);
        // One that is dropped at the end of the grace period.
        let mut unfinished = raw::connect(server.address());
        raw::send(&mut unfinished, b"GET /guest/never-reply HTTP/1.1\r\nhost: test\r\n\r\n");
        server.wait_for_metric("spotter_instances", 1.0);
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(entries(temporary.path()), 0);
    }
    let mut killed = start();
    client::get(&killed.url("/guest/store"));
    killed.signal("KILL");
    killed.wait();
    start().wait_for_log("repairing the key-value store");
}
