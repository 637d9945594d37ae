//! The interfaces that Spin gives to components, as the components of its SDKs use them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, ports, stderr};

/// The components of two SDKs, with these keys.
fn application(keys: &str) -> Application {
    Application::new(&format!(
        r#"
        [variables]
        name = {{ default = "world" }}
        [[trigger.http]]
        route = "/..."
        component = "sdk-7"
        [component.sdk-7]
        source = "spin_sdk_7.wasm"
        {keys}
        [[trigger.http]]
        route = "/5/..."
        component = "sdk-5"
        [component.sdk-5]
        source = "spin_sdk_5.wasm"
        {keys}
        "#
    ))
}

/// What the component at `path` replies to these lines, as lines.
fn results(server: &Server, path: &str, lines: &[&str]) -> Vec<String> {
    let reply = client::send("POST", &server.url(path), &[], lines.join("\n").as_bytes());
    let text = String::from_utf8(reply.body).expect("text");
    assert_eq!(reply.status, 200, "{text}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_component_for_a_release_candidate_of_wasi_runs_as_it_is() {
    let application = Application::new(
        r#"
        [[trigger.http]]
        route = "/..."
        component = { source = "spin_sdk_6.wasm", variables = { greeting = "hello" } }
        "#,
    );
    let said = stderr(&application.run(&["check"]));
    assert_eq!(said, "of-a-test: no errors (components: 1)\n");
    assert_eq!(results(&application.up(&[]), "/", &["candidate"]), ["hello, candidate"]);
}

#[test]
fn variables_of_spin_4_are_read_without_blocking() {
    let server = application("variables = { greeting = \"hello {{ name }}\" }").up(&[]);
    let names = ["greeting", "other", "invalid-name"];
    let [greeting, other, invalid] = &results(&server, "/variables", &names)[..] else {
        panic!("three results");
    };
    assert_eq!(greeting, "Ok(\"hello world\")");
    assert_eq!(other, "Err(Error::Undefined(\"other\"))");
    assert!(invalid.starts_with("Err(Error::InvalidName("), "{invalid}");
}

#[test]
fn key_value_stores_of_spin_4_are_those_of_the_older_interface() {
    let server = application("key_value_stores = [\"default\"]").up(&["--key-value", "c=set"]);
    let found = results(&server, "/key-value", &["default"]);
    assert_eq!(
        found[..7],
        [
            "Ok(())",
            "Ok(())",
            "Ok(Some([49]))",
            "Ok(true)",
            "Ok([\"a\", \"b\", \"c\"])",
            "Ok(())",
            "Ok(None)",
        ]
    );
    assert!(found[7].contains("the key has 2000 bytes"), "{}", found[7]);
    assert_eq!(results(&server, "/key-value", &["other"]), ["Error::AccessDenied"]);
    // More than is read at once.
    assert_eq!(results(&server, "/keys", &["default", "300"]), ["302", "00000", "c"]);
}

#[test]
fn interfaces_that_need_another_host_are_linked_and_say_what_to_do() {
    let server = application("allowed_outbound_hosts = [\"*://localhost:*\"]").up(&[]);
    for (path, last) in [("/refused", 2), ("/5/refused", 3)] {
        let refused = results(&server, path, &["localhost"]);
        assert_eq!(refused.len(), last, "{refused:?}");
        for (reason, text) in [
            ("RuntimeError(", "no large language models"),
            ("ConnectionFailed(", "no MySQL client"),
        ] {
            let is_said = |line: &String| line.contains(reason) && line.contains(text);
            assert!(refused.iter().any(is_said), "{refused:?} lacks {reason} {text}");
        }
        assert!(refused.iter().all(|line| line.contains("run the application with Spin")));
    }
}

#[test]
fn a_database_is_kept_and_is_the_same_through_each_version_of_the_interface() {
    let application = application("sqlite_databases = [\"default\"]")
        .with("first.sql", "CREATE TABLE t (a, b);\nINSERT INTO t VALUES (1, 'one');");
    let server = application.up(&["--sqlite", "@first.sql"]);
    let insert = "INSERT INTO t VALUES (2.5, ?)";
    let found = results(&server, "/sqlite", &["default", insert, "SELECT a, b FROM t"]);
    assert_eq!(found[0], "[] Ok([])");
    let rows = "RowResult { values: [Value::Integer(1), Value::Text(\"one\")] }, \
                RowResult { values: [Value::Real(2.5), Value::Text(\"a parameter\")] }";
    assert_eq!(found[1], format!("[\"a\", \"b\"] Ok([{rows}])"));
    assert_eq!(found[2], "1 changed, row 2");
    drop(server);
    let server = application.up(&["--sqlite", "DELETE FROM t WHERE a = 1"]);
    let old =
        results(&server, "/5/sqlite", &["default", "SELECT b, x'01', NULL FROM t WHERE b = ?"]);
    assert!(
        old[0].contains("Value::Text(\"a parameter\"), Value::Blob([1]), Value::Null"),
        "{old:?}"
    );
    let older = ["default", "UPDATE t SET a = 3", "SELECT a FROM t"];
    let third = results(&server, "/5/sqlite3", &older);
    assert!(third[1].contains("Value::Integer(3)"), "{third:?}");
    assert_eq!(third[2], "1 changed, row 0");
    for path in ["/sqlite", "/5/sqlite", "/5/sqlite3"] {
        assert_eq!(results(&server, path, &["other"]), ["Error::AccessDenied"]);
    }
}

#[test]
fn a_statement_stays_within_its_database_and_its_limits() {
    let application = application("sqlite_databases = [\"default\"]");
    let limits = ["--sqlite-size", "1MiB", "--request-cpu", "2s"];
    let server = application.up(&limits);
    let elsewhere = application.folder().join("elsewhere.sqlite");
    let refused = |statement: &str| {
        let found = results(&server, "/sqlite", &["default", statement]);
        assert!(found[0].starts_with("Error::"), "{statement}: {}", found[0]);
        found[0].clone()
    };
    for reach in [
        format!("ATTACH '{}' AS other", elsewhere.display()),
        format!("VACUUM INTO '{}'", elsewhere.display()),
        "PRAGMA max_page_count = 100000".to_owned(),
        "PRAGMA database_list".to_owned(),
        "SELECT load_extension('libother.so')".to_owned(),
    ] {
        let said = refused(&reach);
        assert!(said.contains("not ") || said.contains("no such"), "{reach}: {said}");
    }
    assert!(!elsewhere.exists());
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
    assert!(refused(&format!("{numbers} SELECT count(*) FROM n")).contains("takes longer than 2s"));
    assert!(refused(&format!("{numbers} SELECT i FROM n")).contains("more than 16777216 bytes"));
    let memory = refused(&format!(
        "{numbers} SELECT count(DISTINCT i || randomblob(1000)) FROM (SELECT i FROM n LIMIT 1000000)"
    ));
    assert!(memory.contains("memory") || memory.contains("takes longer"), "{memory}");
    let fill = ["default", "CREATE TABLE t (a)", "INSERT INTO t VALUES (zeroblob(2000000))"];
    assert!(results(&server, "/sqlite", &fill)[1].contains("DatabaseFull"));
    // What is there can still be read, and others are served.
    let count = ["default", "SELECT count(*) FROM t"];
    assert!(results(&server, "/sqlite", &count)[0].contains("Value::Integer(0)"));
}

#[test]
fn a_statement_that_cannot_run_keeps_the_server_from_starting() {
    let application = application("sqlite_databases = [\"default\"]");
    let none = self::application("");
    for (application, statement, reason) in [
        (&application, "CREATE nonsense", "syntax error"),
        (&application, "@nothing.sql", "cannot read nothing.sql"),
        (&none, "SELECT 1", "no component has the database \"default\" in its `sqlite_databases`"),
    ] {
        let output = application.run(&["up", "--listen", "127.0.0.1:0", "--sqlite", statement]);
        let said = stderr(&output);
        assert!(!output.status.success() && said.contains(reason), "{said} lacks {reason}");
    }
}

#[test]
fn a_redis_server_that_is_away_or_not_allowed_is_an_error_and_no_hang() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let (silent_port, closed_port) = (port(&silent), port(&closed));
    drop(closed);
    let server = application(&format!(
        "allowed_outbound_hosts = [\"redis://127.0.0.1:{silent_port}\", \"redis://127.0.0.1:{closed_port}\"]"
    ))
    .up(&[]);
    for path in ["/redis", "/5/redis"] {
        let open = |address: &str| results(&server, path, &[address]).join("\n");
        assert_eq!(open("redis://127.0.0.1:1"), "Error::InvalidAddress");
        assert_eq!(open("nonsense"), "Error::InvalidAddress");
        assert_eq!(open("unix:///tmp/redis.sock"), "Error::InvalidAddress");
        let refused = open(&format!("redis://127.0.0.1:{closed_port}"));
        assert!(refused.contains("refused"), "{refused}");
    }
    server.wait_for_log("redis://127.0.0.1:1 was denied");
    let began = Instant::now();
    let waited = results(&server, "/redis", &[&format!("redis://127.0.0.1:{silent_port}/1")]);
    assert!(waited[0].contains("did not reply within 10s"), "{waited:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// A server that answers whatever it receives first with these bytes, and then keeps the connection open. Returns its
/// port.
fn answering(reply: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(reply));
            open.push(stream);
        }
    });
    port
}

#[test]
fn an_mqtt_broker_that_is_away_not_allowed_or_hostile_is_an_error_and_no_hang() {
    let server = application("allowed_outbound_hosts = [\"mqtt://127.0.0.1:*\"]").up(&[]);
    let closed = ports::reserve();
    let huge = answering(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    let cases = [
        (closed, "refused"),
        (answering(&[0x20, 2, 0, 4]), "the user name or the password is wrong"),
        (answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not valid MQTT"),
        (huge, "not valid MQTT"),
        (answering(&[0xd0, 0]), "sent PingResp instead of ConnAck"),
        // An acknowledgement before there is a message.
        (answering(&[0x20, 2, 0, 0, 0x40, 2, 0, 1]), "an unexpected packet"),
    ];
    for path in ["/mqtt", "/5/mqtt"] {
        let publish = |address: &str| results(&server, path, &[address, "user", "word"]).join("\n");
        let denied = "mqtt://localhost:1883?client_id=test";
        let said = publish(denied);
        assert_eq!(said, format!("Error::ConnectionFailed(\"address {denied} is not permitted\")"));
        for malformed in ["nonsense", "tcp://127.0.0.1?client_id=test", "mqtt://127.0.0.1:1883"] {
            assert_eq!(publish(malformed), "Error::InvalidAddress", "{malformed}");
        }
        assert!(publish("mqtts://127.0.0.1?client_id=test").contains("(mqtts) is not supported"));
        for (port, reason) in cases {
            let said = publish(&format!("mqtt://127.0.0.1:{port}?client_id=test"));
            assert!(said.contains("ConnectionFailed(") && said.contains(reason), "{said}");
        }
    }
    server.wait_for_log("mqtt://localhost:1883 was denied");
    // It takes a message without acknowledgement, but the next one fails, and closes the connection.
    let began = Instant::now();
    let port = answering(&[0x20, 2, 0, 0]);
    let address = format!("mqtt://127.0.0.1:{port}?client_id=test");
    let waited = results(&server, "/mqtt", &[&address, "user", "word"]);
    assert_eq!(waited[0], "Ok(())");
    assert!(waited[1].contains("did not reply within 10s"), "{waited:?}");
    assert!(waited[2].contains("open another"), "{waited:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn wasi_config_has_the_variables_under_the_name_that_spin_uses() {
    let server = application("variables = { greeting = \"hello {{ name }}\" }").up(&[]);
    let found = results(&server, "/5/config", &["greeting", "other"]);
    let all = "Ok([(\"greeting\", \"hello world\")])";
    assert_eq!(found, ["Ok(Some(\"hello world\"))", "Ok(None)", all]);
}

#[test]
fn many_keys_are_read_and_written_in_one_call() {
    let server = application("key_value_stores = [\"default\"]").up(&[]);
    let found = results(&server, "/5/batch", &["default"]);
    let (one, two) = ("(\"a\", Some([49]))", "(\"b\", Some([50]))");
    assert_eq!(found[..3], ["Ok(())", &format!("Ok([{one}, {two}, (\"c\", None)])"), "Ok(())"]);
    assert_eq!(found[3], "Ok([(\"a\", None), (\"b\", None), (\"c\", None)])");
}

#[test]
fn a_value_is_replaced_only_if_nobody_has_changed_it() {
    let server = application("key_value_stores = [\"default\"]").up(&[]);
    let found = results(&server, "/5/atomics", &["default"]);
    assert_eq!(found[..2], ["Ok(None)", "Ok(())"]);
    // The bytes of "first" and "third".
    let first = "Ok(Some([102, 105, 114, 115, 116]))";
    assert_eq!(found[2], format!("failed, now {first}, then Ok(())"));
    assert_eq!(found[3], "Ok(Some([116, 104, 105, 114, 100]))");
    assert!(found[4].contains("is not a counter"), "{}", found[4]);
}

#[test]
fn no_increment_is_lost_when_several_instances_count() {
    let server = application("key_value_stores = [\"default\"]").up(&[]);
    std::thread::scope(|scope| {
        let count = || results(&server, "/5/increment", &["default", "10"]);
        let counting: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        counting.into_iter().for_each(|thread| drop(thread.join().expect("counts")));
    });
    assert_eq!(results(&server, "/5/increment", &["default", "1"]), ["Ok(41)"]);
}

#[test]
fn sockets_reach_the_addresses_that_the_manifest_allows_and_no_others() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.expect("a connection").write_all(b"greetings");
        }
    });
    for (hosts, expected) in [
        (format!("tcp://127.0.0.1:{port}"), "greetings"),
        (format!("*://localhost:{port}"), "greetings"),
        ("tcp://127.0.0.0/8:*".to_owned(), "greetings"),
        // A wildcard stands for public addresses only.
        ("*://*:*".to_owned(), "access-denied"),
        (format!("http://127.0.0.1:{port}"), "access-denied"),
        ("tcp://127.0.0.1:1".to_owned(), "access-denied"),
    ] {
        let server = application(&format!("allowed_outbound_hosts = [\"{hosts}\"]")).up(&[]);
        let received = results(&server, "/5/tcp", &[&port]).join("\n");
        assert!(received.contains(expected), "{hosts}: {received}");
    }
}
