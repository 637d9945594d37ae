//! What a guest can take through the host is bounded, and it is told so.

use spotter_tests::client;
use spotter_tests::server::Server;

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads memory from /proc")]
fn bodies_that_a_guest_never_sends_take_little_memory() {
    let server = Server::guests(&[]);
    let hoard = || client::get(&server.url("/guest/hoard-bodies"));
    let before = server.resident();
    let reply = hoard();
    let after = server.resident();
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let buffered: u64 = text.parse().unwrap_or_else(|_| panic!("{} {text}", reply.status));
    println!("{buffered} bytes in 300 bodies; {} KiB more resident", (after - before) >> 10);
    // The host takes some of each body, so that every one can be sent.
    assert!((300 * 4096..=16 << 20).contains(&buffered), "{buffered}");
    assert!(after < before + (64 << 20), "{before} bytes before, {after} after");
}

#[test]
fn a_guest_with_too_many_handles_is_stopped_and_told_so() {
    let server = Server::guests(&[]);
    let reply = client::get(&server.url("/guest/hoard-handles"));
    assert_eq!((reply.status, reply.error_code().as_str()), (500, "handle_limit_exceeded"));
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
}

#[test]
fn a_key_value_store_refuses_what_is_too_large_and_says_why() {
    let server = Server::guests(&["--key-value-size", "3MiB"]);
    let reply = client::get(&server.url("/guest/store-limits"));
    let text = String::from_utf8(reply.body).expect("text");
    let expected = [
        "the key has 2000 bytes; the limit is 1024",
        "the value has 2097152 bytes; the limit is 1048576",
        "stored",
        "stored",
        "stored",
        "is full: with this value it would have 3686660 bytes; the limit is 3145728",
        "stored",
    ];
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line:?} is not {expected:?}");
    }
}
