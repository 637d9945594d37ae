//! Request smuggling: a proxy in front and the server must see the same requests in the same bytes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use spotter_tests::client;
use spotter_tests::front::Front;
use spotter_tests::server::Server;

/// A request that must not be seen where it is part of a body.
const SMUGGLED: &str = "GET /guest/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// What follows each case, as the logs have it.
const NEXT_REQUEST: &str = "GET /guest/hello";

/// `POST /guest/length` with these lines of header, and what follows the header.
fn post(lines: &str, rest: &str) -> Vec<u8> {
    format!("POST /guest/length HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}").into_bytes()
}

fn get(first: &str, lines: &str) -> Vec<u8> {
    format!("{first}\r\n{lines}\r\n").into_bytes()
}

/// Which of two lengths counts: `Content-Length`, given twice or oddly, against `Transfer-Encoding`.
fn lengths() -> Vec<Vec<u8>> {
    let chunks = format!("0\r\n\r\n{SMUGGLED}");
    let hidden = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    let whole = SMUGGLED.len();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut cases = vec![
        post(&format!("Content-Length: {}\r\n{chunked}", chunks.len()), &chunks),
        post(&format!("{chunked}Content-Length: {}\r\n", chunks.len()), &chunks),
        post(&format!("Content-Length: 4\r\n{chunked}"), &hidden),
        post(&format!("Content-Length: {whole}\r\nContent-Length: 0\r\n"), SMUGGLED),
        post(&format!("Content-Length: 0\r\nContent-Length: {whole}\r\n"), SMUGGLED),
        post("Content-Length: 0\r\nContent-Length: 0\r\n", SMUGGLED),
        post(&format!("Content-Length: 0, {whole}\r\n"), SMUGGLED),
        post(&format!("Connection: content-length\r\nContent-Length: {whole}\r\n"), SMUGGLED),
        post(&format!("Connection: transfer-encoding\r\n{chunked}"), &chunks),
        format!(
            "GET /guest/hello HTTP/1.1\r\nHost: a\r\nContent-Length: {whole}\r\n\r\n{SMUGGLED}"
        )
        .into_bytes(),
        format!("POST /guest/length HTTP/1.0\r\nHost: a\r\n{chunked}\r\n{hidden}").into_bytes(),
        format!(
            "HEAD /guest/hello HTTP/1.1\r\nHost: a\r\nContent-Length: {whole}\r\n\r\n{SMUGGLED}"
        )
        .into_bytes(),
    ];
    for odd in [
        "+0",
        "-0",
        "0x0",
        "00",
        " 0",
        "0 ",
        "0\x0b",
        "\t0",
        "0.0",
        "",
        "1e1",
        "99999999999999999999",
    ] {
        cases.push(post(&format!("Content-Length:{odd}\r\n"), SMUGGLED));
    }
    for odd in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: CHUNKED",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding: gzip, chunked",
    ] {
        let length = format!("Content-Length: {}\r\n", chunks.len());
        cases.push(post(&format!("{length}{odd}\r\n"), &chunks));
        cases.push(post(&format!("{odd}\r\n"), &hidden));
    }
    cases
}

/// Chunks that are written oddly.
fn chunks() -> Vec<Vec<u8>> {
    let whole = format!("{:x}", SMUGGLED.len());
    let with = |body: String| post("Transfer-Encoding: chunked\r\n", &body);
    let mut cases: Vec<_> = [
        format!("{whole};ext=1\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("{whole};ext=\"\r\n0\r\n\r\n{SMUGGLED}\"\r\n0\r\n\r\n"),
        format!("{whole};\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("{whole}\n{SMUGGLED}\n0\n\n"),
        format!("{whole}\r{SMUGGLED}\r0\r\r"),
        format!("{whole} \r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!(" {whole}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("0x{whole}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("+{whole}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("-1\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("10000000000000000{whole}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("{whole}\r\n{SMUGGLED}XX0\r\n\r\n"),
        format!("0\r\nContent-Length: 0\r\nHost: b\r\n\r\n{SMUGGLED}"),
        format!("0\r\nX: y\n\n{SMUGGLED}"),
        format!("0;ext\r\n\r\n{SMUGGLED}"),
        format!("000\r\n\r\n{SMUGGLED}"),
        format!("0\r\n{SMUGGLED}"),
        format!("0\n\r\n{SMUGGLED}"),
    ]
    .into_iter()
    .map(with)
    .collect();
    cases.push(post(
        "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
        &format!("0\r\n\r\n{SMUGGLED}"),
    ));
    cases
}

/// First lines and headers that are written oddly.
fn headers() -> Vec<Vec<u8>> {
    let mut cases = vec![
        get("GET http://b/guest/hello HTTP/1.1", "Host: a\r\n"),
        get("GET http://user@b/guest/hello HTTP/1.1", "Host: a\r\n"),
        get("GET http://b HTTP/1.1", "Host: a\r\n"),
        get("GET //b/guest/hello HTTP/1.1", "Host: a\r\n"),
        get("GET /guest/hello HTTP/1.1", "Host: a\r\nHost: b\r\n"),
        get("GET /guest/hello HTTP/1.1", "Host: a/guest\r\n"),
        get("GET /guest/hello HTTP/1.1", "Host : a\r\n"),
        get("GET /guest/hello HTTP/1.1", ""),
        get("GET /guest/hello", ""),
        get("GET /guest/hello HTTP/1.1 HTTP/1.1", "Host: a\r\n"),
        get("GET  /guest/hello HTTP/1.1", "Host: a\r\n"),
        get("GET /guest/hello\tHTTP/1.1", "Host: a\r\n"),
        get("GET /guest/../guest/hello HTTP/1.1", "Host: a\r\n"),
        get("GET /guest/%2e%2e/guest/hello HTTP/1.1", "Host: a\r\n"),
        get("GET /guest/hello%00 HTTP/1.1", "Host: a\r\n"),
        get("GET /guest/hello#part HTTP/1.1", "Host: a\r\n"),
        get("GET /guest/hello HTTP/1.10", "Host: a\r\n"),
        get("GET /guest/hello HTTP/2.0", "Host: a\r\n"),
        get("GET /guest/hello HTTP/1.1", "Host: a\r\nX: y\r\n z\r\n"),
        get("GET /guest/hello HTTP/1.1", " Host: a\r\nHost: a\r\n"),
        get("GET /guest/hello HTTP/1.1", "Host: a\r\nX: \0\r\n"),
        get("GET /guest/hello HTTP/1.1", "Host: a\r\n: y\r\n"),
        get("GET /guest/hello HTTP/1.1", "Host: a\r\nno colon\r\n"),
        get(
            "GET /guest/hello HTTP/1.1",
            "Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        ),
        get("CONNECT a:80 HTTP/1.1", "Host: a:80\r\n"),
        get("OPTIONS * HTTP/1.1", "Host: a\r\n"),
        get("\r\n\r\nGET /guest/hello HTTP/1.1", "Host: a\r\n"),
    ];
    cases.push(b"GET /guest/hello HTTP/1.1\nHost: a\n\n".to_vec());
    cases.push(b"GET /guest/hello HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n".to_vec());
    cases
        .push(format!("GET /guest/hello HTTP/1.1\r\nHost: a\r\nX: y\r\n\n{SMUGGLED}").into_bytes());
    cases.push(format!("GET /guest/hello HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}").into_bytes());
    cases
}

/// Sends the bytes, and reads until the proxy has nothing more to say.
fn send(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_millis(250))).expect("a timeout");
    // The proxy may have hung up.
    let _ = stream.write_all(bytes);
    let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        reply.extend_from_slice(&buffer[..read]);
    }
    reply
}

/// The requests that the server has seen: method and path of each.
fn seen(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let access = lines.filter(|line| line["target"] == "access");
    access
        .map(|line| {
            let field = |name: &str| {
                let found = line.get(name).or_else(|| line["fields"].get(name));
                found.and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            format!("{} {}", field("method"), field("path"))
        })
        .collect()
}

/// What the proxy has passed on and the server has seen of a case, as soon as they agree, or else after a while.
fn agreement(front: &Front, server: &Server, before: [usize; 2]) -> [Vec<String>; 2] {
    let began = Instant::now();
    loop {
        let mut both = [front.passed().split_off(before[0]), seen(server).split_off(before[1])];
        for request in both.iter_mut().flatten() {
            // The fragment is for the client. The server drops it.
            request.truncate(request.find('#').unwrap_or(request.len()));
        }
        both.iter_mut().for_each(|requests| requests.sort_unstable());
        let is_logged = both[0] == both[1] && both[0].iter().any(|request| request == NEXT_REQUEST);
        if is_logged || began.elapsed() > Duration::from_secs(6) {
            return both;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn no_request_is_seen_differently(start: impl Fn(&str) -> Front) {
    let server = Server::guests(&["--log-format", "json", "--body-idle-timeout", "1s"]);
    let front = start(server.address());
    let cases = [lengths(), chunks(), headers()].concat();
    let (mut refused, mut wrong) = (0, Vec::new());
    for case in &cases {
        let before = [front.passed().len(), seen(&server).len()];
        let reply = send(&front.address, case);
        let text = String::from_utf8_lossy(case);
        assert!(!String::from_utf8_lossy(&reply).contains("HTTP/1.1 500"), "{text:?}");
        // Another client's request, which takes the same connection to the server.
        let next = client::get(&format!("http://{}/guest/hello", front.address));
        assert_eq!((next.status, next.body.as_slice()), (200, b"hello".as_slice()), "{text:?}");
        let [passed, seen] = agreement(&front, &server, before);
        refused += usize::from(passed.len() == 1);
        // A request that the server's parser refuses is in no log. One that the proxy has not passed on was smuggled.
        let smuggled = seen.iter().any(|request| !passed.contains(request));
        if smuggled
            || seen.len() > passed.len()
            || !seen.iter().any(|request| request == NEXT_REQUEST)
        {
            wrong.push(format!("{text:?}: passed on {passed:?}, seen {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The corpus is worth its name if the proxy refuses some of it, and passes some on.
    assert!(refused > 10 && refused + 10 < cases.len(), "{refused} of {}", cases.len());
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn nginx_and_the_server_see_the_same_requests() {
    no_request_is_seen_differently(Front::nginx);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn haproxy_and_the_server_see_the_same_requests() {
    no_request_is_seen_differently(Front::haproxy);
}
