//! Components and PostgreSQL servers that are away, not allowed or hostile. What real ones do is in the second tier.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, ports};

/// Where the components use each version of the interface.
const PATHS: [&str; 4] = ["/postgres", "/5/postgres", "/5/postgres3", "/5/postgres4"];

/// The components, which may connect to any port of this machine's.
fn up() -> Server {
    let hosts = "allowed_outbound_hosts = [\"postgres://127.0.0.1:*\"]";
    Application::new(&format!(
        r#"
        [[trigger.http]]
        route = "/..."
        component = {{ source = "spin_sdk_7.wasm", {hosts} }}
        [[trigger.http]]
        route = "/5/..."
        component = {{ source = "spin_sdk_5.wasm", {hosts} }}
        "#
    ))
    .up(&[])
}

/// What the component at `path` says when it has connected to this address and run these statements.
fn use_server(server: &Server, path: &str, address: &str, statements: &[&str]) -> Vec<String> {
    let body = [&[address], statements].concat().join("\n");
    let reply = client::send("POST", &server.url(path), &[], body.as_bytes());
    String::from_utf8(reply.body).expect("text").lines().map(str::to_owned).collect()
}

/// A server that sends these replies, one whenever it has received something, and then keeps the connection open.
/// Returns its port.
fn replying(replies: &[Vec<u8>]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let replies = replies.to_vec();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let replies = replies.clone();
            std::thread::spawn(move || reply(stream, &replies));
        }
    });
    port
}

fn reply(mut stream: TcpStream, replies: &[Vec<u8>]) {
    let mut received = [0; 1024];
    for reply in replies {
        if stream.read(&mut received).and_then(|_| stream.write_all(reply)).is_err() {
            return;
        }
    }
    while stream.read(&mut received).is_ok_and(|count| count > 0) {}
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a length");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// Accepts the login, and is ready for a statement.
fn accepted() -> Vec<u8> {
    [message(b'R', &[0, 0, 0, 0]), ready()].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// A result with a column of this type, and as many rows with this value as `count` says.
fn result(type_number: u32, value: &[u8], count: usize) -> Vec<u8> {
    let column = [b"c\0", &[0; 6][..], &type_number.to_be_bytes(), &[0; 8]].concat();
    let length = u32::try_from(value.len()).expect("a length").to_be_bytes();
    let row = message(b'D', &[&[0, 1], &length[..], value].concat());
    let columns = message(b'T', &[&[0, 1], &column[..]].concat());
    [message(b'1', b""), message(b'2', b""), columns, row.repeat(count)].concat()
}

fn done() -> Vec<u8> {
    [message(b'C', b"SELECT 1\0"), ready()].concat()
}

#[test]
fn a_postgresql_server_that_is_away_or_not_allowed_is_an_error_and_no_hang() {
    let server = up();
    let closed = ports::reserve();
    for path in PATHS {
        for (address, reason) in [
            (
                "host=localhost user=me".to_owned(),
                "address postgres://localhost:5432 is not permitted: add it to `allowed_outbound_hosts`",
            ),
            (format!("host=127.0.0.1 port={closed} user=me"), "refused"),
            (format!("postgres://me:word@127.0.0.1:{closed}/db?sslmode=require"), "needs TLS"),
            ("host=/run/postgresql user=me".to_owned(), "Unix socket"),
            ("nonsense".to_owned(), "neither postgres://"),
        ] {
            let said = use_server(&server, path, &address, &[]).join("\n");
            assert!(said.contains("ConnectionFailed(") && said.contains(reason), "{path}: {said}");
        }
    }
    server.wait_for_log("postgres://localhost:5432 was denied");
}

#[test]
fn a_hostile_login_is_an_error_and_no_hang() {
    let server = up();
    let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let challenge = message(b'R', b"\0\0\0\x0br=nonce,s=QQ==,i=4000000000");
    let foreign = message(b'R', b"\0\0\0\x0br=nonce,s=QQ==,i=4096");
    let cases = [
        (vec![message(b'R', &[0, 0, 0, 7])], "a login that is not supported"),
        (vec![message(b'E', b"SFATAL\0C28000\0Mno entry\0\0")], "FATAL: no entry (SQLSTATE 28000)"),
        (vec![scram.clone(), challenge], "hashed 4000000000 times"),
        (vec![scram, foreign], "invalid nonce"),
        (vec![b"R\0\0\0\x01".to_vec()], "the connection to the server failed"),
        (vec![message(b'?', b"")], "the connection to the server failed"),
        (vec![ready()], "does not follow PostgreSQL's protocol"),
        (vec![message(b'N', &[0; 1 << 20]).repeat(9)], "more than 8388608 bytes"),
    ];
    for (replies, reason) in cases {
        let address = format!("postgres://me:word@127.0.0.1:{}/db", replying(&replies));
        let began = Instant::now();
        let said = use_server(&server, "/postgres", &address, &[]).join("\n");
        assert!(said.contains("ConnectionFailed(") && said.contains(reason), "{said}");
        assert!(began.elapsed() < Duration::from_secs(8), "{reason}");
    }
    let without_password = replying(&[message(b'R', &[0, 0, 0, 3])]);
    let address = format!("postgres://me@127.0.0.1:{without_password}");
    let said = use_server(&server, "/5/postgres", &address, &[]).join("\n");
    assert!(said.contains("add password="), "{said}");
}

#[test]
fn a_hostile_result_is_an_error_and_neither_a_hang_nor_much_memory() {
    let server = up();
    let long_number = [0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1];
    let ok = [result(23, &[0, 0, 0, 7], 1), done()].concat();
    // The connection can be used again after errors in values, but not after others.
    for (reply, reason, second) in [
        (
            [result(1700, &long_number, 200), done()].concat(),
            "more than 16777216 bytes",
            "Int32(7)",
        ),
        ([result(23, &[0], 1), done()].concat(), "malformed value", "Int32(7)"),
        ([result(1082, &[0x7f, 0xff, 0xff, 0xff], 1), done()].concat(), "infinite", "Int32(7)"),
        (
            [message(b'E', b"SERROR\0C42601\0Msyntax\0Hthink\0\0"), ready()].concat(),
            "ERROR: syntax (SQLSTATE 42601)",
            "Int32(7)",
        ),
        (result(25, &[b'a'; 1 << 20], 9), "more than 8388608 bytes", "was closed after an error"),
        (message(b'K', &[0; 8]), "does not follow", "was closed after an error"),
    ] {
        let port = replying(&[accepted(), reply, ok.clone()]);
        let address = format!("host=127.0.0.1 port={port} user=me");
        for path in PATHS {
            let said = use_server(&server, path, &address, &["SELECT 1", "SELECT 2"]);
            assert!(said.len() == 2 && said[0].contains(reason), "{path}: {said:?}");
            assert!(said[1].contains(second), "{path}: {said:?}");
        }
    }
    let began = Instant::now();
    let silent = format!("host=127.0.0.1 port={} user=me", replying(&[accepted()]));
    let said = use_server(&server, "/postgres", &silent, &["SELECT 1"]).join("\n");
    assert!(said.contains("did not reply within 10s"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20));
}
