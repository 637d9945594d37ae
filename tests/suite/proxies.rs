//! Proxies in front of the server: which of them it believes about their clients, in headers and in the PROXY protocol.

use std::time::{Duration, Instant};

use spotter_tests::server::Server;
use spotter_tests::{client, raw, run, stderr};

const FORWARDED: [(&str, &str); 5] = [
    ("x-forwarded-for", "198.51.100.7, 203.0.113.7, 127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "outer.test"),
    ("x-real-ip", "198.51.100.7"),
    ("forwarded", "for=192.0.2.44;proto=http;host=forged.test"),
];

const GET: &[u8] = b"GET /guest/all-headers HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const ADDRESSES: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 80];

/// A server with a log in JSON.
fn start(arguments: &[&str]) -> Server {
    Server::guests(&[&["--log-format", "json"], arguments].concat())
}

/// The headers that a guest sees of a request with [`FORWARDED`].
fn seen(server: &Server) -> String {
    let reply = client::send("GET", &server.url("/guest/all-headers"), &FORWARDED, &[]);
    assert_eq!(reply.status, 200, "{reply:?}");
    String::from_utf8(reply.body).expect("text")
}

/// Sends these bytes and then a request, and returns the reply.
fn send(server: &Server, first: &[u8]) -> String {
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, &[first, GET].concat());
    raw::read_to_end(&mut stream)
}

#[test]
fn a_trusted_proxy_says_who_its_client_is() {
    let server = start(&["--trusted-proxy", "127.0.0.1,10.0.0.0/8"]);
    let headers = seen(&server);
    for line in [
        "spin-client-addr: 203.0.113.7:0\n",
        "spin-full-url: https://outer.test/guest/all-headers\n",
        "x-forwarded-for: 198.51.100.7, 203.0.113.7, 127.0.0.1\n",
    ] {
        assert!(headers.contains(line), "no {line:?} in {headers}");
    }
    assert!(!headers.contains("forged.test"), "{headers}");
    server.wait_for_log("\"client\":\"203.0.113.7:0\"");
    let server = start(&["--trusted-proxy", "127.0.0.1", "--forwarded-headers", "forwarded"]);
    let headers = seen(&server);
    assert!(headers.contains("spin-client-addr: 192.0.2.44:0\n"), "{headers}");
    assert!(headers.contains("spin-full-url: http://forged.test/"), "{headers}");
    assert!(!headers.contains("x-forwarded") && !headers.contains("x-real-ip"), "{headers}");
}

#[test]
fn nobody_else_can_speak_for_another_client() {
    let server = start(&["--trusted-proxy", "10.0.0.0/8"]);
    let headers = seen(&server);
    assert!(headers.contains("spin-client-addr: 127.0.0.1:"), "{headers}");
    assert!(headers.contains(&format!("spin-full-url: http://{}/", server.address())), "{headers}");
    for gone in ["x-forwarded", "forwarded:", "x-real-ip"] {
        assert!(!headers.contains(gone), "{headers}");
    }
    assert!(!server.log().contains("203.0.113.7"), "{}", server.log());
    // Without the flag, nothing is believed and nothing removed.
    let headers = seen(&start(&[]));
    assert!(headers.contains("spin-client-addr: 127.0.0.1:"), "{headers}");
    assert!(headers.contains("x-forwarded-host: outer.test\n"), "{headers}");
}

#[test]
fn a_host_that_is_none_is_refused_from_a_proxy_too() {
    let server = start(&["--trusted-proxy", "127.0.0.1"]);
    let url = server.url("/guest/hello");
    let reply = client::send("GET", &url, &[("x-forwarded-host", "a/b?c")], &[]);
    assert_eq!((reply.status, reply.error_code().as_str()), (400, "bad_request"));
}

#[test]
fn the_proxy_protocol_names_the_client_in_both_versions() {
    let server = start(&["--trusted-proxy", "127.0.0.1", "--proxy-protocol"]);
    let version_2 = [SIGNATURE, &[0x21, 0x11, 0, 12], &ADDRESSES].concat();
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.1 10.0.0.2 12345 80\r\n".as_slice(), "192.0.2.1:12345"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 80\r\n", "[2001:db8::1]:12345"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1:"),
        (&version_2, "192.0.2.1:12345"),
        (&local, "127.0.0.1:"),
    ] {
        let reply = send(&server, header);
        assert!(reply.starts_with("HTTP/1.1 200"), "{header:?}: {reply}");
        assert!(reply.contains(&format!("spin-client-addr: {expected}")), "{header:?}: {reply}");
    }
    server.wait_for_log("\"client\":\"192.0.2.1:12345\"");
}

#[test]
fn the_proxy_protocol_is_not_believed_from_anybody_else() {
    let server = start(&["--trusted-proxy", "10.0.0.0/8", "--proxy-protocol"]);
    let reply = send(&server, b"PROXY TCP4 192.0.2.1 10.0.0.2 12345 80\r\n");
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(send(&server, b"").starts_with("HTTP/1.1 200"));
    assert!(!server.log().contains("192.0.2.1"), "{}", server.log());
}

#[test]
fn hostile_proxy_headers_are_refused_in_time() {
    let arguments = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "--header-timeout", "1s"];
    let server = start(&arguments);
    let long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff], &[0; 0xffff]].concat();
    let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 4096]].concat();
    let malformed: [&[u8]; 5] =
        [b"", b"PROXY TCP4 a b c d\r\n", b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff", &long, &endless];
    for header in malformed {
        // The server may be gone before all is sent.
        let mut stream = raw::connect(server.address());
        let _ = std::io::Write::write_all(&mut stream, &[header, GET].concat());
        assert_eq!(raw::read_to_end(&mut stream), "", "{header:?}");
    }
    server.wait_for_metric(
        "spotter_requests_rejected_total{reason=\"malformed_proxy_header\"}",
        malformed.len() as f64,
    );
    // A byte now and then, and none at all.
    for begin in [b"PROXY TCP4 192.0.2.1".as_slice(), b""] {
        let began = Instant::now();
        let mut stream = raw::connect(server.address());
        raw::send(&mut stream, begin);
        let mut slow = stream.try_clone().expect("a socket");
        let is_silent = begin.is_empty();
        std::thread::spawn(move || {
            while !is_silent && std::io::Write::write_all(&mut slow, b"1").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(raw::read_to_end(&mut stream), "");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    }
    server.wait_for_metric("spotter_requests_rejected_total{reason=\"proxy_header_timeout\"}", 1.0);
    let good = send(&server, b"PROXY TCP4 192.0.2.1 10.0.0.2 12345 80\r\n");
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
}

#[test]
fn proxies_that_are_none_are_usage_errors() {
    for (arguments, reason) in [
        (["up", "--trusted-proxy", "10.0.0.0/33"].as_slice(), "33 bits"),
        (&["up", "--trusted-proxy", "proxy.example.com"], "not an IP address"),
        (&["up", "--proxy-protocol"], "--trusted-proxy"),
        (&["up", "--trusted-proxy", "::1", "--forwarded-headers", "via"], "x-forwarded"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{}", stderr(&output));
    }
}
