//! What components write to their standard streams: in the log, and in files.

use std::fs::read_to_string;

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, stderr};

const TWO: &str = r#"
[[trigger.http]]
route = "/a/..."
component = "a"
[[trigger.http]]
route = "/b/..."
component = "b"
[component.a]
source = "guest.wasm"
[component.b]
source = "guest.wasm"
"#;

/// Makes both components write this text to both of their streams.
fn say(server: &Server, text: &str) {
    for component in ["a", "b"] {
        let said =
            client::send("POST", &server.url(&format!("/{component}/say")), &[], text.as_bytes());
        assert_eq!(said.body, b"said");
    }
}

#[test]
fn output_is_in_files_by_component_and_stream() {
    let application = Application::new(TWO);
    let file = |name: &str| read_to_string(application.folder().join("logs").join(name));
    let up = |flags: &[&str], text: &str| {
        let server = application.up(&[&["--log-dir", "logs"], flags].concat());
        say(&server, text);
        // The log has a request's line after those of its component.
        server.wait_for_log("path=\"/b/say\"");
        server.log()
    };
    let log = up(&[], "first");
    assert!(log.contains("out: first") && log.contains("written to files in logs"), "{log}");
    assert_eq!(file("a_stdout.txt").expect("a file"), "out: first\n");
    assert_eq!(file("a_stderr.txt").expect("a file"), "err: first\n");
    assert_eq!(file("b_stdout.txt").expect("a file"), "out: first\n");
    // The files have all lines, whatever the log shows, and grow.
    let log = up(&["--quiet"], "second");
    assert!(!log.contains("second"), "{log}");
    assert_eq!(file("a_stdout.txt").expect("a file"), "out: first\nout: second\n");
    up(&["--truncate-logs"], "third");
    assert_eq!(file("b_stderr.txt").expect("a file"), "err: third\n");
}

#[test]
fn the_folder_of_output_can_be_in_the_runtime_configuration() {
    let application = Application::new(TWO).with("config.toml", "log_dir = \"kept\"\n");
    let up = |flags: &[&str]| {
        say(&application.up(&[&["--runtime-config-file", "config.toml"], flags].concat()), "text");
    };
    let has = |path: &str| application.folder().join(path).exists();
    up(&["--log-dir", ""]);
    assert!(!has("kept"));
    up(&["-L", "other"]);
    assert!(!has("kept") && has("other/a_stdout.txt"));
    up(&[]);
    assert!(has("kept/a_stdout.txt"));
    let refused = application.run(&["up", "--log-dir", "spin.toml/logs"]);
    let said = stderr(&refused);
    assert!(said.contains("cannot create the folder of logs spin.toml/logs"), "{said}");
}

#[test]
fn the_log_follows_the_components_that_are_named() {
    let application = Application::new(TWO);
    let server = application.up(&["--follow", "b"]);
    say(&server, "text");
    server.wait_for_log("err: text");
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(": text")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines.iter().all(|line| line.contains("component=\"b\"")), "{log}");
    let said = stderr(&application.run(&["up", "--follow", "c"]));
    assert!(
        said.contains("--follow c: no such component; those that are served are a, b"),
        "{said}"
    );
    let both = application.run(&["up", "--follow", "a", "--quiet"]);
    assert_eq!(both.status.code(), Some(64));
}

#[test]
fn lines_that_a_file_cannot_take_are_counted() {
    let application = Application::new(TWO);
    let logs = application.folder().join("logs");
    std::fs::create_dir(&logs).expect("a folder");
    // Writing to this device always fails.
    std::os::unix::fs::symlink("/dev/full", logs.join("a_stdout.txt")).expect("a link");
    let server = application.up(&["--log-dir", "logs", "--admin", "127.0.0.1:0"]);
    say(&server, "text");
    assert_eq!(server.metric("spotter_log_lines_dropped_total"), 1.0);
    assert_eq!(read_to_string(logs.join("a_stderr.txt")).expect("a file"), "err: text\n");
}
