//! Any frames on a connection of HTTP/2: the server ends it, sends frames only, and no reply has the status 500.
//!
//! An input is a byte that decides how many bytes are on their way at once, and then frames, each with four bytes
//! before its payload: type, flags, stream, length. The highest bit of the type repeats the payload, so that a small
//! input can have large frames.

#![no_main]

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use spotter_fuzz_wasmtime::Harness;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
/// The first byte of a header block with the status 500 (RFC 7541, appendix A).
const STATUS_500: u8 = 0x80 | 14;
const REPEATS: usize = 64;

thread_local! {
    static HARNESS: OnceCell<Harness> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((window, described)) = bytes.split_first() else { return };
    let (sent, window) = (frames(described), usize::from(*window) * 32 + 1);
    let received =
        HARNESS.with(|harness| harness.get_or_init(Harness::start).exchange(&sent, window));
    let mut rest = received.as_slice();
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        // The connection may end within a frame.
        let payload = &after[..length.min(after.len())];
        assert!(*kind <= 9, "a frame of the type {kind}");
        assert!(*kind != HEADERS || payload.first() != Some(&STATUS_500), "a failure");
        rest = &after[payload.len()..];
    }
});

fn frames(mut described: &[u8]) -> Vec<u8> {
    let mut frames = PREFACE.to_vec();
    while let [kind, flags, stream, length, rest @ ..] = described {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let payload = payload.repeat(if kind & 0x80 == 0 { 1 } else { REPEATS });
        frames.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        frames.extend_from_slice(&[kind & 0x7f, *flags, 0, 0, 0, *stream]);
        frames.extend_from_slice(&payload);
        described = rest;
    }
    frames
}
