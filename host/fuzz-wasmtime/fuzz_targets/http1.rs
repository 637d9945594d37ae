//! Any bytes on a connection of HTTP/1.1: the server ends it, and no reply says that the server failed. The first byte
//! decides how many bytes are on their way at once.

#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use spotter_fuzz_wasmtime::Harness;

/// What begins a connection of HTTP/2, which `http2` is for.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What every reply begins with.
const BEGINNING: &[u8] = b"HTTP/1.";

thread_local! {
    static HARNESS: OnceCell<Harness> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((window, sent)) = bytes.split_first() else { return };
    if sent.starts_with(HTTP2_PREFACE) {
        return;
    }
    let window = usize::from(*window) * 32 + 1;
    let received =
        HARNESS.with(|harness| harness.get_or_init(Harness::start).exchange(sent, window));
    // The connection may end within a reply.
    let begun = &received[..received.len().min(BEGINNING.len())];
    assert!(BEGINNING.starts_with(begun), "{received:?}");
    // Nothing that a client sends comes back with the end of a line in it.
    for line in received.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\r")) {
        assert!(!line.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&received));
    }
});
