//! Clients that no server wants: each kind goes on until the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use spotter_tests::client;
use spotter_tests::server::Server;

use crate::servers::Servers;

/// Connections that send their header a byte at a time.
const SLOW_HEADERS: usize = 300;
/// Connections that send their body more slowly than the server allows.
const SLOW_BODIES: usize = 20;
/// Connections that do not read their reply.
const SLOW_READERS: usize = 20;

/// What a misbehaving component does, one request after the other.
const MISBEHAVIOUR: [&str; 8] =
    ["loop", "grow", "trap", "panic", "no-reply", "never-end", "hoard-bodies", "shout"];

/// Starts all kinds of clients.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    servers: &'scope Servers,
    picture: &'scope [u8],
    is_done: &'scope AtomicBool,
) {
    let plain = &servers.plain;
    let header = b"GET /detect HTTP/1.1\r\nhost: a\r\nx: ";
    scope.spawn(move || trickle(plain, b"", header, SLOW_HEADERS, is_done));
    let upload = b"POST /detect HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    scope.spawn(move || trickle(plain, upload, b"", SLOW_BODIES, is_done));
    let hello = b"\x16\x03\x01\x02\x00\x01\x00";
    scope.spawn(move || trickle(&servers.tls, b"", hello, SLOW_HEADERS / 10, is_done));
    scope.spawn(move || never_read(plain, is_done));
    for server in [plain, &servers.tls] {
        scope.spawn(move || repeat(is_done, 500, || reset_streams(server)));
    }
    scope.spawn(move || repeat(is_done, 300, || interrupt(plain, picture)));
    let mut number = 0;
    scope.spawn(move || {
        repeat(is_done, 200, || {
            number += 1;
            send_damaged(plain, picture, number);
        });
    });
    let mut turn = 0;
    scope.spawn(move || {
        repeat(is_done, 2000, || {
            turn += 1;
            misbehave(plain, MISBEHAVIOUR[turn % MISBEHAVIOUR.len()]);
        });
    });
}

/// Does this until the end, with a pause after each time.
fn repeat(is_done: &AtomicBool, milliseconds: u64, mut action: impl FnMut()) {
    while !is_done.load(Ordering::Relaxed) {
        action();
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
}

/// Keeps connections open, and sends a byte a second on each: `bytes`, and then any. Opens those again that the server
/// closes, and sends `opening` at once.
fn trickle(
    server: &Server,
    opening: &[u8],
    bytes: &[u8],
    connections: usize,
    is_done: &AtomicBool,
) {
    let mut streams: Vec<Option<TcpStream>> = (0..connections).map(|_| None).collect();
    let mut turn = 0;
    repeat(is_done, 1000, || {
        let byte = [*bytes.get(turn).unwrap_or(&b'a')];
        for stream in &mut streams {
            if stream.as_mut().is_none_or(|stream| stream.write_all(&byte).is_err()) {
                *stream = TcpStream::connect(server.address()).ok();
                let sent = &bytes[..(turn + 1).min(bytes.len())];
                stream.as_mut().map(|stream| stream.write_all(&[opening, sent].concat()));
            }
        }
        turn += 1;
    });
}

/// Asks for large replies, and reads none of them.
fn never_read(server: &Server, is_done: &AtomicBool) {
    repeat(is_done, 10_000, || {
        let request = b"GET /guest/large HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut streams: Vec<_> =
            (0..SLOW_READERS).filter_map(|_| TcpStream::connect(server.address()).ok()).collect();
        streams.iter_mut().for_each(|stream| drop(stream.write_all(request)));
        std::thread::sleep(Duration::from_secs(20));
    });
}

/// Opens HTTP/2 streams and resets each at once (CVE-2023-44487). To a server with TLS, these are wrong bytes.
fn reset_streams(server: &Server) {
    let Ok(mut stream) = TcpStream::connect(server.address()) else { return };
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let header = b"\x82\x86\x04\x0c/guest/hello\x01\x04test";
    for number in (1..2000_u32).step_by(2) {
        frames.extend([0, 0, header.len() as u8, 1, 5]);
        frames.extend(number.to_be_bytes());
        frames.extend(header);
        frames.extend([0, 0, 4, 3, 0]);
        frames.extend(number.to_be_bytes());
        frames.extend(8_u32.to_be_bytes());
    }
    let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.write_all(&frames);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Closes the connection in the middle of an upload, or before the reply.
fn interrupt(server: &Server, picture: &[u8]) {
    for sent in [picture.len() / 2, picture.len()] {
        let Ok(mut stream) = TcpStream::connect(server.address()) else { return };
        let head = format!(
            "POST /detect HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
            picture.len()
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&picture[..sent]);
    }
}

/// Sends a picture that is cut short, and bytes that are none.
fn send_damaged(server: &Server, picture: &[u8], number: usize) {
    let cut = &picture[..number * 997 % picture.len()];
    for body in [cut, &[number as u8; 5000]] {
        let headers = [("content-type", "application/octet-stream")];
        let _ = client::try_send("POST", &server.url("/detect"), &headers, body);
    }
}

/// Has the misbehaving component do one of its tricks. The client gives up after a few seconds.
fn misbehave(server: &Server, trick: &str) {
    client::status_within(&server.url(&format!("/guest/{trick}")), Duration::from_secs(5));
}
