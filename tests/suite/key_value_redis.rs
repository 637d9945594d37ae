//! Key-value stores that the runtime configuration keeps in Redis, without a server: errors for the guest, and no hang.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, ports, stderr};

const MANIFEST: &str = r#"
[[trigger.http]]
route = "/..."
component = "sdk-7"
[component.sdk-7]
source = "spin_sdk_7.wasm"
key_value_stores = ["default", "local"]
[[trigger.http]]
route = "/5/..."
component = "sdk-5"
[component.sdk-5]
source = "spin_sdk_5.wasm"
key_value_stores = ["default", "local"]
"#;

/// The application with this runtime configuration.
fn application(config: &str) -> Application {
    Application::new(MANIFEST).with("config.toml", config)
}

const WITH_CONFIG: [&str; 2] = ["--runtime-config-file", "config.toml"];

/// Keeps the store `default` in a server at this port.
fn default_at(port: u16) -> String {
    format!(
        "[key_value_store.default]\ntype = \"redis\"\nurl = \"redis://user:s3cr3t@127.0.0.1:{port}/2\"\n"
    )
}

/// What the component at `path` replies to this line, as lines.
fn results(server: &Server, path: &str, line: &str) -> Vec<String> {
    let reply = client::send("POST", &server.url(path), &[], line.as_bytes());
    let text = String::from_utf8(reply.body).expect("text");
    assert_eq!(reply.status, 200, "{text}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_store_whose_server_is_away_is_an_error_and_other_stores_work() {
    let config = default_at(ports::reserve()) + "[key_value_store.local]\ntype = \"spin\"\n";
    let server = application(&config).up(&WITH_CONFIG);
    for _ in 0..2 {
        for path in ["/key-value", "/5/batch"] {
            for line in results(&server, path, "default") {
                let is_said = line.contains("is unavailable") && line.contains("refused");
                assert!(is_said || line.contains("the key has 2000 bytes"), "{path}: {line}");
                assert!(line.contains("Err("), "{path}: {line}");
            }
        }
    }
    let found = results(&server, "/key-value", "local");
    assert_eq!(found[2..5], ["Ok(Some([49]))", "Ok(true)", "Ok([\"a\", \"b\"])"]);
    assert_eq!(results(&server, "/5/increment", "local\n2"), ["Ok(1)", "Ok(2)"]);
    // The log says so once.
    server.wait_for_log("calls to it fail");
    let log = server.log();
    assert_eq!(log.matches("calls to it fail").count(), 1, "{log}");
    assert!(log.contains("correct [key_value_store.default]") && !log.contains("s3cr3t"), "{log}");
}

/// A server that answers whatever it receives with these bytes, in turn, and the last of them as long as it is read.
/// Without any, it says nothing. Returns its port.
fn answering(replies: &[&str]) -> u16 {
    let replies: Vec<String> = replies.iter().map(ToString::to_string).collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let replies = replies.clone();
            std::thread::spawn(move || {
                for reply in &replies {
                    let read = stream.read(&mut [0; 4096]);
                    if read.and_then(|_| stream.write_all(reply.as_bytes())).is_err() {
                        return;
                    }
                }
                let Some(last) = replies.last() else {
                    // Keeps the connection open until the client closes it.
                    let _ = stream.read_to_end(&mut Vec::new());
                    return;
                };
                while stream.write_all(last.as_bytes()).is_ok() {}
            });
        }
    });
    port
}

#[test]
fn a_server_that_is_silent_or_sends_too_much_is_an_error_and_no_hang() {
    let silent = application(&default_at(answering(&[]))).up(&WITH_CONFIG);
    let began = Instant::now();
    let said = results(&silent, "/key-value", "default");
    let late = "did not accept the connection within 5s";
    assert!(said[0].contains(late) && said[1].contains(late), "{said:?}");
    // The calls after the first do not wait as long again.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

    let no_password = "-ERR Client sent AUTH, but no password is set\r\n+OK\r\n";
    let refusing = application(&default_at(answering(&[no_password]))).up(&WITH_CONFIG);
    let said = results(&refusing, "/key-value", "default");
    assert!(said[0].contains("authentication failed"), "{said:?}");

    // It accepts the login and the ping, and then sends a text of half a gigabyte.
    let large = format!("$536870912\r\n{}", "x".repeat(65536));
    let endless = answering(&["+OK\r\n+OK\r\n", "+PONG\r\n", &large]);
    let flooding = application(&default_at(endless)).up(&WITH_CONFIG);
    let said = results(&flooding, "/key-value", "default");
    assert!(said[0].contains("more than 8388608 bytes"), "{said:?}");

    // It replies with what is no reply to the command.
    let confused = answering(&["+OK\r\n+OK\r\n", "+PONG\r\n", "*1\r\n:7\r\n"]);
    let confused = application(&default_at(confused)).up(&WITH_CONFIG);
    let said = results(&confused, "/key-value", "default");
    assert!(said.iter().any(|line| line.contains("is it a Redis server?")), "{said:?}");
}

#[test]
fn a_value_that_cannot_be_set_keeps_the_server_from_starting() {
    let application = application(&default_at(ports::reserve()));
    let flags = ["up", "--listen", "127.0.0.1:0", "--key-value", "a=b"];
    let output = application.run(&[&flags[..], &WITH_CONFIG].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("cannot set \"a\" in the default store"), "{said}");
    assert!(said.contains("is unavailable") && !said.contains("s3cr3t"), "{said}");
}

#[test]
fn a_store_that_no_component_uses_is_named_in_the_log() {
    let config = default_at(ports::reserve()).replace(".default", ".defualt");
    let server = application(&config).up(&WITH_CONFIG);
    server.wait_for_log("[key_value_store.defualt] in the runtime configuration has no effect");
    server.wait_for_log("did you mean `default`?");
    assert_eq!(results(&server, "/key-value", "default")[0], "Ok(())");
}

#[test]
fn a_store_that_is_wrong_is_refused_and_its_url_is_not_shown() {
    let redis =
        |url: &str| format!("[key_value_store.default]\ntype = \"redis\"\nurl = \"{url}\"\n");
    for (config, reason) in [
        (redis("rediss://user:s3cr3t@host"), "TLS (rediss) is not supported"),
        (redis("http://user:s3cr3t@host"), "does not begin with redis://"),
        (redis("redis://user:s3cr3t@host/first"), "the database is not a number"),
        (redis("redis://user:s3cr3t@host:70000"), "the port is not a number up to 65535"),
        (redis("redis://user:s3cr3t@host").replace("url", "urls"), "there is no `url`"),
        (redis("redis://user:s3cr3t@host") + "tls = true", "unknown key `tls`"),
        (redis("s3cr3t").replace("\"redis\"", "\"aws_dynamo\""), "\"aws_dynamo\" is not supported"),
        (redis("s3cr3t").replace(".default", ""), "write [key_value_store.NAME]"),
        (redis("redis://user:s3cr3t@host").replace("host\"", "host"), "config.toml"),
        ("[key_value_store.a]\ntype = \"spin\"\npath = \"a.db\"".into(), "`path` is not supported"),
    ] {
        let flags = ["up", "--listen", "127.0.0.1:0"];
        let output = application(&config).run(&[&flags[..], &WITH_CONFIG].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && said.contains("config.toml"), "{said} lacks {reason}");
        assert!(!said.contains("s3cr3t"), "{said}");
    }
}
