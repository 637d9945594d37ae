//! Unix sockets, and sockets that systemd passes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use spotter_tests::application::Application;
use spotter_tests::server::Server;
use spotter_tests::{client, spotter, stderr};

const GUEST: &str = r#"
[[trigger.http]]
route = "/guest/..."
component = "guest"
[component.guest]
source = "guest.wasm"
"#;

/// The reply to a request for this path through a Unix socket.
fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a write");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    reply
}

fn listen(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

/// Serves on a Unix socket.
fn serve(application: &Application, socket: &Path) -> Server {
    let server = Server::spawn(application.command(&[
        "up",
        "--log-format",
        "json",
        "--listen",
        &listen(socket),
    ]));
    assert_eq!(server.address(), listen(socket));
    server
}

/// The error of a server that must not start on this socket.
fn refusal(application: &Application, socket: &Path) -> String {
    let output = application.run(&["up", "--listen", &listen(socket)]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_server_on_all_addresses_answers_over_ipv4_and_ipv6() {
    let application = Application::new(GUEST);
    let server = Server::spawn(application.command(&["up", "--listen", "[::]:0"]));
    let port = server.url("").rsplit(':').next().expect("a port").to_owned();
    for address in ["127.0.0.1", "[::1]"] {
        let reply = client::get(&format!("http://{address}:{port}/guest/hello"));
        assert_eq!(reply.status, 200, "{address}");
    }
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end() {
    let application = Application::new(GUEST);
    let socket = application.folder().join("spotter.sock");
    let mut server = serve(&application, &socket);
    let reply = get(&socket, "/guest/all-headers");
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("spin-client-addr: unix:"), "{reply}");
    server.wait_for_log("\"client\":\"unix:\"");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(!socket.exists(), "the socket is still there");
}

#[test]
fn the_socket_of_a_killed_server_is_replaced_but_no_other_file_and_no_live_server() {
    let application = Application::new(GUEST);
    let socket = application.folder().join("spotter.sock");
    let mut killed = serve(&application, &socket);
    killed.signal("KILL");
    killed.wait();
    assert!(socket.exists(), "the killed server has removed it");
    let mut server = serve(&application, &socket);
    let said = refusal(&application, &socket);
    assert!(said.contains("another server listens on"), "{said}");
    assert!(get(&socket, "/guest/hello").contains("hello"), "the first server's socket is gone");
    // Another server takes the path over: its socket stays.
    std::fs::remove_file(&socket).expect("a file");
    let other = UnixListener::bind(&socket).expect("a socket");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(socket.exists(), "another server's socket was removed");
    drop(other);
    let file = application.folder().join("file");
    std::fs::write(&file, "content").expect("a file");
    let said = refusal(&application, &file);
    assert!(said.contains("exists and is not a socket"), "{said}");
    assert_eq!(std::fs::read(&file).expect("a file"), b"content");
    // A link to a stale socket is not followed.
    let link = application.folder().join("link");
    std::os::unix::fs::symlink(&socket, &link).expect("a link");
    assert!(refusal(&application, &link).contains("is not a socket"));
    assert!(socket.exists());
}

#[test]
fn of_servers_that_start_at_once_on_a_stale_socket_one_serves_and_the_others_say_why_not() {
    let application = Application::new(GUEST);
    let socket = application.folder().join("spotter.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    let address = listen(&socket);
    let arguments = ["up", "--listen", &address];
    let start = || {
        let mut command = application.command(&arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("spotter starts")
    };
    let mut servers: Vec<_> = (0..3).map(|_| start()).collect();
    let mut ended = Vec::new();
    let began = std::time::Instant::now();
    while servers.len() > 1 {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "two servers on one socket");
        std::thread::sleep(std::time::Duration::from_millis(50));
        let done = servers.iter_mut().position(|one| one.try_wait().expect("a status").is_some());
        ended.extend(done.map(|index| servers.remove(index).wait_with_output().expect("an end")));
    }
    for output in ended {
        assert!(stderr(&output).contains("another server listens on"), "{}", stderr(&output));
    }
    assert!(get(&socket, "/guest/hello").contains("hello"));
    servers[0].kill().expect("a signal");
    servers[0].wait().expect("an end");
}

/// `spotter` with this socket as descriptor 3, as systemd passes it.
fn inheriting(application: &Application, socket: OwnedFd) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null", "sh"]);
    command.arg(spotter()).args(["up", "--listen", "fd://"]);
    command.current_dir(application.folder()).stdin(socket);
    command
}

#[test]
fn a_tcp_socket_that_systemd_passes_is_served() {
    let application = Application::new(GUEST);
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address").to_string();
    let mut server = Server::spawn(inheriting(&application, socket.into()));
    assert_eq!(server.address(), address);
    assert_eq!(client::get(&server.url("/guest/hello")).body, b"hello");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_unix_socket_that_systemd_passes_is_served_and_stays() {
    let application = Application::new(GUEST);
    let path = application.folder().join("passed.sock");
    let socket = UnixListener::bind(&path).expect("a socket");
    let mut server = Server::spawn(inheriting(&application, socket.into()));
    assert!(get(&path, "/guest/hello").contains("hello"));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(path.exists(), "systemd's socket was removed");
}

#[test]
fn without_a_socket_from_systemd_the_error_says_what_to_do() {
    let application = Application::new(GUEST);
    let said = stderr(&application.run(&["up", "--listen", "fd://"]));
    assert!(said.contains("which passed 0") && said.contains("socket unit"), "{said}");
    // The socket belongs to another process.
    let mut command = application.command(&["up", "--listen", "fd://"]);
    command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]);
    let said = stderr(&command.output().expect("spotter starts"));
    assert!(said.contains("which passed 0"), "{said}");
    let file = std::fs::File::open("/dev/null").expect("a file");
    let said = stderr(&inheriting(&application, file.into()).output().expect("spotter starts"));
    assert!(said.contains("fd 3 is not a socket"), "{said}");
}

#[test]
fn a_listen_address_that_is_none_is_a_usage_error() {
    let application = Application::new(GUEST);
    let output = application.run(&["up", "--listen", "unix:"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("path after unix: is missing"), "{}", stderr(&output));
}

#[test]
fn a_server_whose_output_nobody_reads_serves_all_the_same() {
    let application = Application::new(GUEST);
    let socket = application.folder().join("spotter.sock");
    let mut command = application.command(&["up", "--listen", &listen(&socket)]);
    let mut process =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("spotter starts");
    drop(process.stdout.take());
    let began = std::time::Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "it does not listen");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(get(&socket, "/guest/hello").contains("hello"));
    assert!(process.try_wait().expect("a status").is_none(), "it has ended");
    process.kill().expect("a signal");
    process.wait().expect("an end");
}
