//! Each limit, exceeded on purpose: the request that exceeds it gets an error that says so, and no other is affected.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use spotter_tests::client::{self, Reply};
use spotter_tests::server::Server;
use spotter_tests::{pictures, raw, root, run, spotter, stderr, under_limit};

/// The header of a `POST` to `/guest/length`.
fn post_head(headers: &str) -> Vec<u8> {
    format!("POST /guest/length HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n")
        .into_bytes()
}

fn get(server: &Server, path: &str) -> Reply {
    client::get(&server.url(path))
}

fn assert_good(server: &Server) {
    assert_eq!(get(server, "/guest/hello").body, b"hello");
}

#[test]
fn a_guest_that_loops_is_stopped_with_504() {
    let server = Server::guests(&["--request-cpu", "300ms"]);
    let began = Instant::now();
    let reply = get(&server, "/guest/loop");
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "cpu_limit_exceeded"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_good(&server);
}

#[test]
fn a_guest_that_waits_for_ever_is_stopped_with_504() {
    let server = Server::guests(&["--request-timeout", "300ms"]);
    let reply = get(&server, "/guest/never-reply");
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "request_timeout"));
    assert_good(&server);
    let stopped = server.metric("spotter_guest_failures_total{reason=\"request_timeout\"}");
    assert_eq!(stopped, 1.0);
}

#[test]
fn a_reply_that_never_ends_is_cut_off() {
    let server = Server::guests(&["--request-timeout", "300ms"]);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, b"GET /guest/never-end HTTP/1.1\r\nhost: test\r\n\r\n");
    let reply = raw::read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("a beginning"), "{reply}");
    // It is chunked, and the last chunk is missing, so that no client takes it for a complete reply.
    assert!(!reply.ends_with("0\r\n\r\n"), "{reply}");
    assert_good(&server);
}

#[test]
fn a_guest_that_takes_all_memory_is_stopped() {
    let server = Server::guests(&["--instance-memory", "64MiB"]);
    let reply = get(&server, "/guest/grow");
    assert_eq!((reply.status, reply.error_code().as_str()), (500, "memory_limit_exceeded"));
    assert!(String::from_utf8_lossy(&reply.body).contains("67108864 bytes"));
    assert_good(&server);
}

#[test]
fn a_body_is_capped_whatever_way_it_is_sent() {
    let server = Server::guests(&["--body-size", "100KiB"]);
    let length = |size: usize| client::post_picture(&server.url("/guest/length"), &vec![1; size]);
    assert_eq!(length(100 << 10).body, (100 << 10).to_string().as_bytes());
    let reply = length((100 << 10) + 1);
    assert_eq!((reply.status, reply.error_code().as_str()), (413, "body_too_large"));

    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, &post_head("transfer-encoding: chunked\r\n"));
    let chunk = [b"1000\r\n".as_slice(), &[1; 0x1000], b"\r\n"].concat();
    // 25 chunks fit. The server may close the connection while the rest is being sent.
    for _ in 0..30 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let reply = raw::read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 413") && reply.contains("body_too_large"), "{reply}");
    assert_good(&server);
}

#[test]
fn a_header_that_is_too_slow_is_answered_with_408() {
    let server = Server::guests(&["--header-timeout", "400ms", "--keep-alive-timeout", "400ms"]);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, b"GET /guest/hello HTTP/1.1\r\nhost: te");
    let reply = raw::read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("header_timeout"), "{reply}");
    let refused = server.metric("spotter_requests_rejected_total{reason=\"header_timeout\"}");
    assert_eq!(refused, 1.0);
    // An idle connection is closed without a reply.
    let mut idle = raw::connect(server.address());
    raw::send(&mut idle, b"GET /guest/hello HTTP/1.1\r\nhost: test\r\n\r\n");
    let replies = raw::read_to_end(&mut idle);
    assert_eq!(replies.matches("HTTP/1.1").count(), 1, "{replies}");
}

#[test]
fn a_body_that_pauses_is_answered_with_408() {
    let server = Server::guests(&["--body-idle-timeout", "400ms"]);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, &post_head("content-length: 100\r\n"));
    raw::send(&mut stream, b"a beginning");
    let reply = raw::read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("body_timeout"), "{reply}");
    assert_good(&server);
}

#[test]
fn a_full_queue_and_a_long_wait_are_answered_with_503() {
    let server = Server::guests(&[
        "--max-instances",
        "1",
        "--queue-length",
        "1",
        "--queue-timeout",
        "500ms",
        "--request-timeout",
        "3s",
    ]);
    let busy = |path: &str| {
        let mut stream = raw::connect(server.address());
        raw::send(&mut stream, format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes());
        stream
    };
    let _running = busy("/guest/never-reply");
    server.wait_for_metric("spotter_instances", 1.0);
    let mut waiting = busy("/guest/hello");
    server.wait_for_metric("spotter_requests_queued", 1.0);
    let full = get(&server, "/guest/hello");
    assert_eq!((full.status, full.error_code().as_str()), (503, "queue_full"));
    assert_eq!(full.header("retry-after"), "1");
    let waited = raw::read_some(&mut waiting);
    assert!(waited.starts_with("HTTP/1.1 503") && waited.contains("queue_timeout"), "{waited}");
    // The admin listener and the health path do not queue.
    assert_eq!(client::get(&server.admin_url("/readyz")).status, 200);
    assert_eq!(get(&server, "/.well-known/spin/health").body, b"OK");
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let server = Server::guests(&["--connections", "2"]);
    let first = raw::connect(server.address());
    let _second = raw::connect(server.address());
    let mut third = raw::connect(server.address());
    raw::send(&mut third, b"GET /guest/hello HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    third.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert_eq!(raw::read_some(&mut third), "");
    drop(first);
    third.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    assert!(raw::read_to_end(&mut third).contains("hello"));
}

#[test]
fn a_limit_has_one_name_as_flag_variable_and_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("runtime.toml");
    std::fs::write(&file, "[limits]\nbody_size = \"1KiB\"\n").expect("a file");
    let file = file.to_str().expect("a path");
    let too_large =
        |server: &Server| client::post_picture(&server.url("/guest/length"), &[1; 2000]).status;
    assert_eq!(too_large(&Server::guests(&["--runtime-config-file", file])), 413);
    assert_eq!(
        too_large(&Server::guests(&["--runtime-config-file", file, "--body-size", "4KiB"])),
        200
    );

    let by_variable = || {
        let mut command = Command::new(spotter());
        command.env("SPOTTER_BODY_SIZE", "1KiB");
        command
    };
    assert_eq!(too_large(&Server::guests_by(by_variable(), &[])), 413);
    assert_eq!(too_large(&Server::guests_by(by_variable(), &["--body-size", "4KiB"])), 200);

    let up = |arguments: &[&str]| run(&[&["up", "-f", "tests/guests"], arguments].concat());
    std::fs::write(file, "[limits]\nbody_sise = 1\n").expect("a file");
    let misspelt = stderr(&up(&["--runtime-config-file", file]));
    assert!(misspelt.contains("did you mean `body_size`?"), "{misspelt}");
    assert_eq!(up(&["--queue-timeout", "soon"]).status.code(), Some(64));
    assert!(root().join("tests/guests").is_dir());
}

#[test]
fn clients_that_trickle_their_bodies_hold_up_nobody() {
    let server = Server::guests(&["--instances", "1", "--queue-length", "1"]);
    let mut tricklers: Vec<_> = (0..20).map(|_| raw::connect(server.address())).collect();
    for stream in &mut tricklers {
        raw::send(stream, &post_head("content-length: 3\r\n"));
        raw::send(stream, b"1");
    }
    for _ in 0..10 {
        assert_good(&server);
    }
    for stream in &mut tricklers {
        raw::send(stream, b"23");
        let reply = raw::read_to_end(stream);
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
}

#[test]
fn a_body_that_takes_too_long_is_told_so_with_408() {
    let server = Server::guests(&["--body-timeout", "400ms", "--body-wait", "1m"]);
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, &post_head("content-length: 100\r\n"));
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(60));
        if stream.write_all(b"1").is_err() {
            break;
        }
    }
    let reply = raw::read_to_end(&mut stream);
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("body_timeout"), "{reply}");
    assert_good(&server);
}

#[test]
fn bodies_that_stall_make_room_for_those_that_do_not() {
    let limits = ["--upload-memory", "300KiB", "--body-size", "100KiB", "--body-wait", "1m"];
    let server = Server::guests(&limits);
    let mut holders: Vec<_> = (0..2).map(|_| raw::connect(server.address())).collect();
    for holder in &mut holders {
        raw::send(holder, &post_head("content-length: 80001\r\n"));
        raw::send(holder, &[1; 80_000]);
        std::thread::sleep(Duration::from_millis(200));
    }
    let post = |bytes: usize| client::post_picture(&server.url("/guest/length"), &vec![1; bytes]);
    assert_eq!(post(80_000).body, b"80000");
    // The one that had stalled the longest was dropped. The other continues.
    let given_up = raw::read_to_end(&mut holders[0]);
    assert!(
        given_up.starts_with("HTTP/1.1 503") && given_up.contains("upload_memory_full"),
        "{given_up}"
    );
    raw::send(&mut holders[1], b"1");
    let held = raw::read_to_end(&mut holders[1]);
    assert!(held.contains("80001"), "{held}");
    assert_good(&server);
}

#[test]
fn a_body_beyond_the_buffer_streams_to_its_guest() {
    let server = Server::guests(&["--body-buffer", "1KiB"]);
    let reply = client::post_picture(&server.url("/guest/length"), &vec![1; 1 << 20]);
    assert_eq!(reply.body, (1 << 20).to_string().as_bytes());
}

#[test]
fn a_client_that_takes_nothing_of_its_reply_is_cut_off() {
    let limits = ["--instances", "1", "--body-idle-timeout", "500ms", "--queue-timeout", "5s"];
    let server = Server::start(&[&limits[..], &["--admin", "127.0.0.1:0"]].concat());
    let picture = pictures::photograph();
    let mut streams: Vec<_> = (0..2).map(|_| raw::connect(server.address())).collect();
    for stream in &mut streams {
        // More replies than fit into the sockets' buffers, none of them read.
        let head = format!(
            "POST /detect?annotate=png HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
            picture.len()
        );
        let requests = [head.as_bytes(), &picture].concat().repeat(40);
        let mut stream = stream.try_clone().expect("a socket");
        // The server stops reading once it cannot write.
        std::thread::spawn(move || drop(stream.write_all(&requests)));
    }
    server.wait_for_metric("spotter_connections", 2.0);
    server.wait_for_metric("spotter_connections", 0.0);
    assert_eq!(get(&server, "/healthz").status, 200);
}

/// Requests a reply of 16 MiB, more than fits into the sockets' buffers, and reads none of it.
fn ask_for_much(server: &Server) -> std::net::TcpStream {
    let mut stream = raw::connect(server.address());
    raw::send(&mut stream, b"GET /guest/large HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream
}

fn assert_all_of_much(reply: &str) {
    let (_, body) = reply.split_once("\r\n\r\n").expect("a header");
    assert_eq!(body.matches('x').count(), 16 << 20);
    assert!(body.ends_with("0\r\n\r\n"), "not the whole reply");
}

#[test]
fn a_slow_reader_gives_its_instance_back() {
    let server = Server::guests(&["--instances", "1", "--reply-buffer", "32MiB"]);
    let mut slow: Vec<_> = (0..3).map(|_| ask_for_much(&server)).collect();
    for _ in 0..10 {
        assert_good(&server);
    }
    server.wait_for_metric("spotter_instances", 0.0);
    for stream in &mut slow {
        assert_all_of_much(&raw::read_to_end(stream));
    }
}

#[test]
fn beyond_what_replies_may_hold_an_instance_waits_for_its_client() {
    let server = Server::guests(&["--instances", "1", "--reply-memory", "0"]);
    let mut slow = ask_for_much(&server);
    server.wait_for_metric("spotter_instances", 1.0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.metric("spotter_instances"), 1.0);
    assert_all_of_much(&raw::read_to_end(&mut slow));
}

#[test]
fn a_client_that_takes_a_little_now_and_then_is_cut_off() {
    let server = Server::guests(&["--body-idle-timeout", "500ms"]);
    let mut slow = ask_for_much(&server);
    let began = Instant::now();
    while !server.log().contains("complete=false") {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", server.log());
        raw::read_some(&mut slow);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_good(&server);
}

#[test]
fn where_few_files_may_be_open_there_are_fewer_connections_and_probes_still_answer() {
    let server = Server::guests_by(under_limit("-n 160"), &["--header-timeout", "60s"]);
    server.wait_for_log("fewer connections than wanted");
    let many: Vec<_> = (0..150).map(|_| raw::connect(server.address())).collect();
    for _ in 0..20 {
        assert_eq!(client::get(&server.admin_url("/readyz")).status, 200);
    }
    let open = server.metric("spotter_connections");
    assert!(open > 50.0 && open < 160.0, "{open}");
    drop(many);
    assert_good(&server);
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
}
