//! Key-value stores in a real Redis server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, ports};

use crate::redis::Redis;

const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "sdk-7"
[component.sdk-7]
source = "spin_sdk_7.wasm"
key_value_stores = ["default", "second"]
[[trigger.http]]
route = "/5/..."
component = "sdk-5"
[component.sdk-5]
source = "spin_sdk_5.wasm"
key_value_stores = ["default", "second"]
[[trigger.http]]
route = "/guest/..."
component = "guest"
[component.guest]
source = "guest.wasm"
key_value_stores = ["default"]
"#;

/// An application with both stores in the server at this port.
fn application(manifest: &str, port: u16) -> Application {
    let stores = [("default", 0), ("second", 1)].map(|(name, database)| {
        format!(
            "[key_value_store.{name}]\ntype = \"redis\"\nurl = \"redis://:secret@127.0.0.1:{port}/{database}\"\n"
        )
    });
    Application::new(manifest).with("config.toml", stores.concat())
}

fn up(application: &Application, flags: &[&str]) -> Server {
    application.up(&[&["--runtime-config-file", "config.toml"], flags].concat())
}

/// What the component at `path` replies to these lines, as lines.
fn results(server: &Server, path: &str, lines: &str) -> Vec<String> {
    let reply = client::send("POST", &server.url(path), &[], lines.as_bytes());
    let text = String::from_utf8(reply.body).expect("text");
    assert_eq!(reply.status, 200, "{text}");
    text.lines().map(str::to_owned).collect()
}

/// Sends the server commands, one on each line, as another program would. Returns what it replies.
fn say(port: u16, commands: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    write!(stream, "AUTH secret\r\n{commands}QUIT\r\n").expect("a server that reads");
    let mut replies = String::new();
    stream.read_to_string(&mut replies).expect("replies");
    replies
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn spins_conformance_case_for_key_value_stores_passes_with_redis() {
    let port = ports::reserve();
    let _redis = Redis::start(port);
    let manifest = "[[trigger.http]]\nroute = \"/...\"\n\
                    component = { source = \"conformance.wasm\", key_value_stores = [\"default\"] }\n";
    let server = up(&application(manifest, port), &[]);
    let reply = client::get(&server.url("/key-value"));
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"ok".as_slice()));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_store_in_redis_does_what_a_store_in_a_file_does() {
    let port = ports::reserve();
    let _redis = Redis::start(port);
    let application = application(MANIFEST, port);
    let server = up(&application, &[]);
    let mut found = results(&server, "/key-value", "default");
    // The server lists keys in any order.
    found[4] = found[4].replace("[\"b\", \"a\"]", "[\"a\", \"b\"]");
    assert_eq!(
        found[..7],
        [
            "Ok(())",
            "Ok(())",
            "Ok(Some([49]))",
            "Ok(true)",
            "Ok([\"a\", \"b\"])",
            "Ok(())",
            "Ok(None)"
        ]
    );
    assert!(found[7].contains("the key has 2000 bytes"), "{}", found[7]);
    assert_eq!(results(&server, "/keys", "second\n300")[0], "300");

    let found = results(&server, "/5/batch", "default");
    let (one, two) = ("(\"a\", Some([49]))", "(\"b\", Some([50]))");
    assert_eq!(found[..3], ["Ok(())", &format!("Ok([{one}, {two}, (\"c\", None)])"), "Ok(())"]);
    assert_eq!(found[3], "Ok([(\"a\", None), (\"b\", None), (\"c\", None)])");

    let found = results(&server, "/5/atomics", "default");
    assert_eq!(found[..2], ["Ok(None)", "Ok(())"]);
    let first = "Ok(Some([102, 105, 114, 115, 116]))";
    assert_eq!(found[2], format!("failed, now {first}, then Ok(())"));
    assert_eq!(found[3], "Ok(Some([116, 104, 105, 114, 100]))");
    assert!(found[4].contains("is not a counter"), "{}", found[4]);

    // Keys and counters are the database's own, and each store has its own database.
    say(port, "SET counter 41\r\n");
    assert_eq!(results(&server, "/5/increment", "default\n1"), ["Ok(42)"]);
    let said = say(port, "GET counter\r\nGET swapped\r\nSELECT 1\r\nEXISTS counter 00299\r\n");
    assert_eq!(said, "+OK\r\n$2\r\n42\r\n$5\r\nthird\r\n+OK\r\n:1\r\n+OK\r\n");

    // What other programs have set does no harm: a list, a key that is not text, and a value that is too large.
    say(
        port,
        "DEL counter count\r\nRPUSH counter 1\r\nSETRANGE count 20000000 x\r\nSET \"\\xff\" x\r\n",
    );
    let wrong = results(&server, "/5/increment", "default\n1");
    assert!(wrong[0].contains("WRONGTYPE"), "{wrong:?}");
    let large = client::get(&server.url("/guest/store"));
    assert_eq!(large.status, 500);
    server.wait_for_log("the value has more than 1048576 bytes");
    assert!(results(&server, "/key-value", "default")[4].contains("\"counter\""));
    assert!(!server.log().contains("secret"), "{}", server.log());
    // There is no file.
    assert!(!application.folder().join(".spotter/key_value.redb").exists());
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn processes_share_a_store_in_redis() {
    let port = ports::reserve();
    let _redis = Redis::start(port);
    let application = application(MANIFEST, port);
    let first = up(&application, &["--key-value", "given=at start"]);
    let second = up(&application, &[]);
    let count = |server: &Server| {
        let reply = client::get(&server.url("/guest/store"));
        String::from_utf8(reply.body).expect("text")
    };
    for (server, expected) in [(&first, "1 "), (&second, "2 "), (&first, "3 ")] {
        let counted = count(server);
        assert!(counted.starts_with(expected) && counted.contains("\"given\""), "{counted}");
    }
    // No increment is lost.
    std::thread::scope(|scope| {
        for server in [&first, &second, &first, &second] {
            scope.spawn(move || results(server, "/5/increment", "second\n25"));
        }
    });
    assert_eq!(results(&first, "/5/increment", "second\n1"), ["Ok(101)"]);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_store_in_redis_works_again_when_its_server_does() {
    let port = ports::reserve();
    let redis = Redis::start(port);
    let application = application(MANIFEST, port);
    let server = up(&application, &[]);
    assert_eq!(results(&server, "/key-value", "default")[0], "Ok(())");
    drop(redis);
    for _ in 0..3 {
        let away = results(&server, "/key-value", "default");
        assert!(away[..7].iter().all(|line| line.starts_with("Err(Error::Other(")), "{away:?}");
    }
    let _redis = Redis::start(port);
    let began = Instant::now();
    while results(&server, "/key-value", "default")[0] != "Ok(())" {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    server.wait_for_log("is available again");
    assert_eq!(server.log().matches("calls to it fail").count(), 1, "{}", server.log());
}
