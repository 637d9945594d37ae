//! Each request gets a fresh instance: it sees nothing of other requests, and cannot harm them.

use std::time::Duration;

use spotter_tests::server::Server;
use spotter_tests::{client, raw};

#[test]
fn no_request_sees_what_another_left() {
    let server = Server::guests(&[]);
    for _ in 0..20 {
        let reply = client::get(&server.url("/guest/canary"));
        let text = String::from_utf8(reply.body).expect("text");
        assert_eq!(text, "memory false global false environment false file false written false");
    }
}

#[test]
fn a_failing_guest_gets_its_own_500_and_its_last_words_are_in_the_log() {
    let server = Server::guests(&[]);
    for (path, code) in [
        ("/guest/trap", "guest_trapped"),
        ("/guest/panic", "guest_trapped"),
        ("/guest/no-reply", "guest_no_response"),
    ] {
        let reply = client::get(&server.url(path));
        assert_eq!((reply.status, reply.error_code().as_str()), (500, code), "{path}");
        assert_eq!(client::get(&server.url("/guest/hello")).status, 200);
    }
    server.wait_for_log("about to trap");
    server.wait_for_log("a guest's panic");
    assert_eq!(server.metric("spotter_guest_failures_total{reason=\"guest_trapped\"}"), 2.0);
}

#[test]
fn a_body_that_is_never_read_holds_nobody_up() {
    let server = Server::guests(&[]);
    for _ in 0..5 {
        let reply = client::post_picture(&server.url("/guest/ignore-body"), &vec![1; 1 << 20]);
        assert_eq!(reply.body, b"hello");
    }
}

#[test]
fn good_requests_stay_good_beside_every_kind_of_bad_one() {
    let server = Server::guests(&[
        "--request-cpu",
        "200ms",
        "--request-timeout",
        "1s",
        "--instance-memory",
        "64MiB",
        "--instances",
        "8",
        // No buffer, so that a body that the guest does not read waits at the client.
        "--body-buffer",
        "0",
    ]);
    let bad = [
        "/guest/loop",
        "/guest/grow",
        "/guest/trap",
        "/guest/panic",
        "/guest/no-reply",
        "/guest/never-reply",
        "/guest/never-end",
        "/guest/ignore-body",
    ];
    std::thread::scope(|scope| {
        let bad = bad.map(|path| {
            let url = server.url(path);
            let body = vec![1; if path == "/guest/ignore-body" { 8 << 20 } else { 0 }];
            let post =
                move |_| client::try_send("POST", &url, &[], &body).ok().map(|reply| reply.status);
            scope.spawn(move || (0..3).map(post).collect::<Vec<_>>())
        });
        while !bad.iter().all(|thread| thread.is_finished()) {
            assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
            std::thread::sleep(Duration::from_millis(5));
        }
        for thread in bad {
            let statuses = thread.join().expect("a thread");
            // A reply that began before its guest was stopped, or before its body was read, may have any of these
            // statuses, or none.
            let expected =
                |status: &Option<u16>| status.is_none_or(|s| [200, 500, 504].contains(&s));
            assert!(statuses.iter().all(expected), "{statuses:?}");
        }
    });
    assert_eq!(server.metric("spotter_instances"), 0.0);
}

#[test]
fn a_client_that_goes_away_stops_its_guest() {
    let server = Server::guests(&[]);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, b"GET /guest/never-reply HTTP/1.1\r\nhost: test\r\n\r\n");
    server.wait_for_metric("spotter_instances", 1.0);
    drop(stream);
    server.wait_for_metric("spotter_instances", 0.0);
    server.wait_for_metric("spotter_guest_failures_total{reason=\"client_gone\"}", 1.0);
}

#[test]
fn a_reply_without_a_body_leaves_its_guest_at_work() {
    let server = Server::guests(&[]);
    let reply = client::send("HEAD", &server.url("/guest/work-on"), &[], b"");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    server.wait_for_log("worked on after its reply");
    assert_eq!(server.metric("spotter_guest_failures_total{reason=\"client_gone\"}"), 0.0);
    server.wait_for_log("complete=true");
}
