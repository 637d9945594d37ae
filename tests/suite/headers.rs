//! The memory of headers counts towards the same limit as that of bodies.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spotter_tests::server::Server;
use spotter_tests::{client, raw};

/// A header of 60 KiB that nobody reads.
const LARGE_BYTES: usize = 60 << 10;
/// Fewer than 40 such headers fit into 1 MiB.
const LIMITS: [&str; 4] = ["--upload-memory", "1MiB", "--body-size", "64KiB"];
const CLIENTS: usize = 40;
const FITTING: usize = (1 << 20) / LARGE_BYTES;

/// Begins a request with a large header and the beginning of a body. The server has read the header by then: it asks
/// for the body.
fn trickle(server: &Server) -> TcpStream {
    let mut stream = raw::connect(server.address());
    let large = "a".repeat(LARGE_BYTES);
    let fields =
        format!("host: test\r\ncontent-length: 9\r\nexpect: 100-continue\r\nx-large: {large}");
    raw::send(&mut stream, format!("POST /guest/length HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes());
    assert_eq!(raw::read_some(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    raw::send(&mut stream, b"1");
    stream
}

/// Waits until so many requests were turned away for lack of memory.
fn wait_for_refusals(server: &Server, least: usize) {
    const REFUSED: &str = "spotter_requests_rejected_total{reason=\"upload_memory_full\"}";
    let began = Instant::now();
    while (server.metric(REFUSED) as usize) < least {
        assert!(began.elapsed() < Duration::from_secs(5), "{} refused", server.metric(REFUSED));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn headers_of_trickled_bodies_count_and_those_that_stall_the_longest_go_first() {
    let server = Server::guests(&LIMITS);
    let mut streams: Vec<_> = (0..CLIENTS).map(|_| trickle(&server)).collect();
    wait_for_refusals(&server, CLIENTS - FITTING);
    let reply = raw::read_to_end(&mut streams[0]);
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert!(reply.contains("upload_memory_full"), "{reply}");
    // The last is still there, and others are served.
    let url = server.url("/guest/length");
    assert_eq!(client::send("POST", &url, &[], &[1; 60_000]).body, b"60000");
    let last = streams.last_mut().expect("a stream");
    last.write_all(b"23456789").expect("a write");
    let reply = raw::read_some(last);
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[test]
fn headers_on_one_connection_of_http_2_count_too() {
    let server = Server::guests(&LIMITS);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _held = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address()).await.expect("a connection");
        let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        let mut held = Vec::new();
        for _ in 0..CLIENTS {
            let request = http::Request::post("http://test/guest/length");
            let request = request.header("x-large", "a".repeat(LARGE_BYTES)).body(());
            let mut requests = requests.clone().ready().await.expect("a connection");
            let begun = requests.send_request(request.expect("a request"), false);
            let (reply, mut body) = begun.expect("a request");
            body.send_data(Bytes::from_static(b"1"), false).expect("a body");
            held.push((reply, body));
        }
        held
    });
    wait_for_refusals(&server, CLIENTS - FITTING);
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
}

#[test]
fn headers_of_requests_without_bodies_count_while_they_wait() {
    let waits = ["--max-instances", "1", "--instances", "1", "--queue-timeout", "30s"];
    let server = Server::guests(&[&LIMITS[..], &waits].concat());
    let large = "a".repeat(LARGE_BYTES);
    let head = format!("GET /guest/wait/300 HTTP/1.1\r\nhost: test\r\nx-large: {large}\r\n\r\n");
    let _streams: Vec<_> = std::iter::repeat_with(|| {
        let mut stream = raw::connect(server.address());
        raw::send(&mut stream, head.as_bytes());
        stream
    })
    .take(CLIENTS)
    .collect();
    wait_for_refusals(&server, CLIENTS - FITTING - 1);
    // A small one has room.
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
}
