//! `spotter watch`: a change to a source is served without a restart by hand.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use spotter_tests::server::Server;
use spotter_tests::{client, guests, ports, root, spotter};

const MANIFEST: &str = r#"spin_manifest_version = 2
[application]
name = "watched"
[[trigger.http]]
route = "/..."
component = "text"
[component.text]
source = "hello.wasm"
files = [{ source = "built", destination = "/texts" }]
[component.text.build]
command = "mkdir -p built && cp one.txt built/one.txt && echo built >> builds.log"
watch = ["*.txt"]
"#;

#[test]
fn a_changed_source_is_built_and_served_and_a_broken_one_keeps_the_last() {
    guests();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    fs::copy(root().join("target/spotter/guest.wasm"), file("hello.wasm")).expect("a copy");
    fs::write(file("spin.toml"), MANIFEST).expect("a file");
    fs::write(file("one.txt"), "first").expect("a file");
    let mut command = Command::new(spotter());
    command.arg("watch").arg("--from").arg(folder.path());
    // All servers use the same port, one after the other.
    command.args(["--", "--listen", &format!("127.0.0.1:{}", ports::reserve())]);
    let server = Server::spawn(command);
    let builds = || fs::read_to_string(file("builds.log")).unwrap_or_default().lines().count();
    let wait_for_text = |expected: &str| {
        let began = Instant::now();
        while client::try_get(&server.url("/file"))
            .is_none_or(|reply| reply.body != expected.as_bytes())
        {
            assert!(began.elapsed() < Duration::from_secs(20), "{expected}: {}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_for_text("first");
    // Reading a file is not a change, and neither are the files that the build writes.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(builds(), 1, "{}", server.log());
    fs::write(file("one.txt"), "second").expect("a file");
    wait_for_text("second");
    assert_eq!(builds(), 2);
    // A file that no pattern names has no effect. A build that fails leaves the server running.
    fs::write(file("other.md"), "unwatched").expect("a file");
    fs::remove_file(file("one.txt")).expect("a file to remove");
    server.wait_for_log("failed");
    wait_for_text("second");
    assert_eq!(builds(), 2);
    fs::write(file("one.txt"), "third").expect("a file");
    wait_for_text("third");
    // When it is stopped, it also stops the server.
    server.signal("TERM");
    let began = Instant::now();
    while client::try_get(&server.url("/file")).is_some() {
        assert!(began.elapsed() < Duration::from_secs(20), "it still serves");
        std::thread::sleep(Duration::from_millis(50));
    }
}
