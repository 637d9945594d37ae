//! Components whose code has no checks for their limit on CPU time (`interruption = "watchdog"`).

use std::process::Command;
use std::time::{Duration, Instant};

use spotter_tests::client::{self, Reply};
use spotter_tests::server::Server;
use spotter_tests::{guests, root, spotter};
use tempfile::TempDir;

/// A server of the guest that misbehaves, compiled without checks.
struct Unchecked {
    server: Server,
    _folder: TempDir,
}

impl Unchecked {
    fn start(arguments: &[&str]) -> Self {
        guests();
        let folder = tempfile::tempdir().unwrap();
        let source = root().join("target/spotter/guest.wasm");
        let manifest = format!(
            "spin_manifest_version = 2\n[application]\nname = \"unchecked\"\n[[trigger.http]]\nroute = \"/guest/...\"\n\
             component = \"guest\"\n[component.guest]\nsource = {source:?}\nkey_value_stores = [\"default\"]\n\
             [component.guest.tool.spotter]\ninterruption = \"watchdog\"\n"
        );
        std::fs::write(folder.path().join("spin.toml"), manifest).unwrap();
        let mut command = Command::new(spotter());
        command
            .args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "-f"])
            .arg(folder.path())
            .args(arguments);
        Self { server: Server::spawn(command), _folder: folder }
    }
}

fn get(server: &Server, path: &str) -> Reply {
    client::get(&server.url(path))
}

#[test]
fn a_loop_without_checks_gets_its_client_a_504_in_time_and_holds_up_nobody() {
    let Unchecked { server, _folder } =
        Unchecked::start(&["--request-cpu", "300ms", "--instances", "2"]);
    let began = Instant::now();
    let reply = get(&server, "/guest/loop");
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "cpu_limit_exceeded"));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // The loop still runs, at the lowest priority.
    assert_eq!(server.metric("spotter_instances_abandoned"), 1.0);
    for _ in 0..20 {
        assert_eq!(get(&server, "/guest/hello").body, b"hello");
    }
    // Its permit is free: as many requests as there are instances are answered at once.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(get(&server, "/guest/hello").status, 200));
        }
    });
}

#[test]
fn a_server_whose_instances_all_loop_ends_so_that_a_fresh_one_can_start() {
    let Unchecked { mut server, _folder } =
        Unchecked::start(&["--request-cpu", "200ms", "--instances", "1", "--grace", "2s"]);
    assert_eq!(get(&server, "/guest/loop").status, 504);
    assert!(!server.wait().success());
    server.wait_for_log("exceeded `request_cpu`");
}

#[test]
fn a_guest_without_checks_that_waits_is_stopped_when_its_time_is_over() {
    let Unchecked { server, _folder } = Unchecked::start(&["--request-timeout", "300ms"]);
    let reply = get(&server, "/guest/never-reply");
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "request_timeout"));
    server.wait_for_metric("spotter_instances", 0.0);
    assert_eq!(server.metric("spotter_instances_abandoned"), 0.0);
}

#[test]
fn guests_without_checks_that_wait_take_no_place_from_others_either() {
    let Unchecked { server, _folder } = Unchecked::start(&["--instances", "2"]);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(get(&server, "/guest/wait/2000").body, b"waited"));
        }
        server.wait_for_metric("spotter_instances_waiting", 8.0);
        assert_eq!(get(&server, "/guest/hello").body, b"hello");
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
