//! HTTP/2 on the same port as HTTP/1.1, and clients that abuse it.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use spotter_tests::server::Server;
use spotter_tests::{client, pictures, raw};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames (RFC 9113, section 6).
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `GET /guest/hello` with `:authority: test`, in HPACK without its tables (RFC 7541).
pub(crate) const GET_HELLO: &[u8] = b"\x82\x86\x04\x0c/guest/hello\x01\x04test";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Connects in HTTP/2 without TLS.
async fn connect(server: &Server) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = tokio::net::TcpStream::connect(server.address()).await.expect("a connection");
    let (requests, connection) = h2::client::handshake(stream).await.expect("a handshake");
    // An error on the connection shows in its requests.
    let connection = tokio::spawn(async move { drop(connection.await) });
    (requests, connection)
}

/// Sends a request and reads its whole reply.
async fn exchange(
    requests: &SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
) -> Result<(StatusCode, Vec<u8>), h2::Error> {
    let mut requests = requests.clone().ready().await?;
    let (reply, mut sent) = requests.send_request(request, false)?;
    sent.send_data(body, true)?;
    let reply = reply.await?;
    let (status, mut body) = (reply.status(), reply.into_body());
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((status, bytes))
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).expect("a request")
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(content);
    frame
}

/// A connection that has sent its preface and settings.
fn raw_connection(server: &Server) -> TcpStream {
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    stream
}

/// Sends frames for as long as the server takes them, and returns the types of the frames that it sent.
fn flood(stream: TcpStream, frames: impl Iterator<Item = Vec<u8>>) -> BTreeSet<u8> {
    use std::io::Read;
    let mut reader = stream.try_clone().expect("a socket");
    let received = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes);
        bytes
    });
    write_all(&stream, frames);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let bytes = received.join().expect("a reader");
    let (mut rest, mut kinds) = (bytes.as_slice(), BTreeSet::new());
    while let [a, b, c, kind, ..] = rest {
        kinds.insert(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    kinds
}

/// Writes frames until the server takes no more.
fn write_all(mut stream: &TcpStream, frames: impl Iterator<Item = Vec<u8>>) {
    use std::io::Write;
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    for frame in frames {
        if stream.write_all(&frame).is_err() {
            break;
        }
    }
}

#[test]
fn many_requests_share_a_connection_and_get_their_own_replies() {
    let server = Server::guests(&["--instances", "4"]);
    runtime().block_on(async {
        let (requests, _connection) = connect(&server).await;
        let mut replies = tokio::task::JoinSet::new();
        for length in 0..20_usize {
            let requests = requests.clone();
            replies.spawn(async move {
                let request =
                    Request::post("http://test/guest/length").body(()).expect("a request");
                let body = Bytes::from(vec![1; length * 10_000]);
                let reply = exchange(&requests, request, body).await.expect("a reply");
                (reply, length * 10_000)
            });
        }
        while let Some(reply) = replies.join_next().await {
            let ((status, body), length) = reply.expect("no panic");
            assert_eq!((status, body), (StatusCode::OK, length.to_string().into_bytes()));
        }
    });
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello", "HTTP/1.1 on that port");
}

#[test]
fn a_picture_gets_the_same_detections_over_http_2() {
    let server = Server::shared();
    let picture = pictures::photograph();
    let over_http1 = client::post_picture(&server.url("/detect"), &picture).json();
    let over_http2 = runtime().block_on(async {
        let (requests, _connection) = connect(server).await;
        let request = Request::post("http://test/detect").header("content-type", "image/jpeg");
        let reply = exchange(&requests, request.body(()).unwrap(), picture.into()).await;
        let (status, body) = reply.expect("a reply");
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice::<serde_json::Value>(&body).expect("JSON")
    });
    assert_eq!(over_http2["detections"], over_http1["detections"]);
}

#[test]
fn a_stopping_server_finishes_the_requests_of_http_2_and_says_that_it_goes_away() {
    let mut server = Server::guests(&[]);
    runtime().block_on(async {
        let (requests, connection) = connect(&server).await;
        let mut ready = requests.clone().ready().await.expect("a connection");
        let (reply, mut body) = ready.send_request(get("/guest/length"), false).expect("a request");
        server.wait_for_metric("spotter_requests_in_flight", 1.0);
        server.signal("TERM");
        let told = requests.clone().ready();
        let told = async { tokio::time::timeout(Duration::from_secs(5), told).await };
        tokio::time::sleep(Duration::from_millis(300)).await;
        let goes_away = told.await.expect("an answer").expect_err("no further request");
        assert!(goes_away.is_go_away() && goes_away.is_remote(), "{goes_away}");
        assert_eq!(goes_away.reason(), Some(h2::Reason::NO_ERROR));
        body.send_data(Bytes::from_static(b"late"), true).expect("a body");
        assert_eq!(reply.await.expect("a reply").status(), StatusCode::OK);
        drop((ready, requests));
        connection.await.expect("the connection ends");
    });
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_idle_connection_of_http_2_ends_after_the_keep_alive_timeout_despite_pings() {
    let server = Server::guests(&["--header-timeout", "300ms", "--keep-alive-timeout", "1s"]);
    let pings = (0..100).map(|number: u64| {
        std::thread::sleep(Duration::from_millis(100));
        frame(PING, 0, 0, &number.to_be_bytes())
    });
    let began = std::time::Instant::now();
    flood(raw_connection(&server), pings);
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

/// CVE-2023-44487 and similar attacks. Each client must be refused or limited, and no other may notice.
#[test]
fn floods_of_resets_continuations_settings_and_pings_harm_nobody_else() {
    let server = Server::guests(&["--instances", "2"]);
    let before = server.resident();
    let resets = (0..20_000).map(|number: u32| {
        let stream = number * 2 + 1;
        let headers = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET_HELLO);
        [headers, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    assert!(flood(raw_connection(&server), resets).contains(&GOAWAY), "rapid reset");

    // A literal header that is never indexed, again and again, in one header block without end.
    let start = std::iter::once(frame(HEADERS, END_STREAM, 1, GET_HELLO));
    let header = [b"\x10\x7f\x81\x0a".as_slice(), &[b'a'; 1408], b"\x00"].concat();
    let more = std::iter::repeat_with(move || frame(CONTINUATION, 0, 1, &header)).take(50_000);
    let kinds = flood(raw_connection(&server), start.chain(more));
    assert!(kinds.contains(&GOAWAY), "continuation flood: {kinds:?}");

    // Each of these wants an answer. A client may read the answers or let them pile up.
    for (kind, content) in [(SETTINGS, [].as_slice()), (PING, &[7; 8])] {
        let frames = || std::iter::repeat_with(move || frame(kind, 0, 0, content)).take(200_000);
        let (read, unread) = (raw_connection(&server), raw_connection(&server));
        let neighbour = beside(&server, || {
            std::thread::scope(|scope| {
                scope.spawn(|| flood(read, frames()));
                write_all(&unread, frames());
            });
        });
        println!("frames of type {kind}: {neighbour:?}");
        assert!(neighbour.slowest < Duration::from_secs(2), "{neighbour:?}");
        assert!(
            neighbour.most_memory < before + (64 << 20),
            "{before} bytes before, {neighbour:?}"
        );
    }
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
    let after = server.resident();
    assert!(after < before + (64 << 20), "{before} bytes before, {after} after");
}

/// What somebody else sees of a server while it is attacked.
#[derive(Debug)]
struct Neighbour {
    replies: usize,
    slowest: Duration,
    /// The server's memory, in bytes.
    most_memory: u64,
}

/// Asks the server again and again until the attack ends. Every reply must be right.
fn beside(server: &Server, attack: impl FnOnce() + Send) -> Neighbour {
    let mut neighbour = Neighbour { replies: 0, slowest: Duration::ZERO, most_memory: 0 };
    std::thread::scope(|scope| {
        let attack = scope.spawn(attack);
        while neighbour.replies == 0 || !attack.is_finished() {
            let began = std::time::Instant::now();
            assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
            neighbour.slowest = neighbour.slowest.max(began.elapsed());
            neighbour.most_memory = neighbour.most_memory.max(server.resident());
            neighbour.replies += 1;
        }
    });
    neighbour
}

#[test]
fn a_header_list_that_is_too_large_is_refused_and_harms_nobody_else() {
    let server = Server::guests(&[]);
    runtime().block_on(async {
        let (requests, _connection) = connect(&server).await;
        let large = Request::get("http://test/guest/hello").header("x-large", "a".repeat(70 << 10));
        let refused = exchange(&requests, large.body(()).unwrap(), Bytes::new()).await;
        let status = refused.map(|(status, _)| status);
        assert!(!matches!(status, Ok(StatusCode::OK)), "{status:?}");
        let (requests, _connection) = connect(&server).await;
        let (status, body) = exchange(&requests, get("/guest/hello"), Bytes::new()).await.unwrap();
        assert_eq!((status, body), (StatusCode::OK, b"hello".to_vec()));
    });
}

#[test]
fn a_client_whose_window_stays_empty_is_cut_off() {
    let server = Server::guests(&["--body-idle-timeout", "500ms"]);
    // With one byte of room, hyper hands the whole reply to h2, which keeps the rest of it.
    for window in [0, 1] {
        let mut stream = raw::connect(server.address());
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, window]);
        let headers = frame(HEADERS, END_STREAM | END_HEADERS, 1, GET_HELLO);
        raw::send(&mut stream, &[PREFACE, &settings, &headers].concat());
        let began = std::time::Instant::now();
        raw::read_to_end(&mut stream);
        let open = began.elapsed();
        assert!(
            open > Duration::from_millis(400) && open < Duration::from_secs(10),
            "a window of {window}: {open:?}"
        );
        server.wait_for_metric("spotter_requests_in_flight", 0.0);
    }
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
}
