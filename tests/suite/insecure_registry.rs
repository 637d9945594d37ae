//! Registries that are not on this machine and speak plain HTTP, and those with a certificate of their own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::Arc;

use spotter_tests::home::{assert_ran, command_in};
use spotter_tests::server::Server;
use spotter_tests::stand_in_registry::{Referrers, serve};
use spotter_tests::{client, guests, stderr};
use tempfile::TempDir;
use tokio_rustls::rustls::{ServerConnection, StreamOwned};

use crate::self_signed::SelfSigned;

/// The address of a registry that speaks plain HTTP. It is not one of this machine's names for itself, so Spotter takes
/// it for another machine.
fn registry() -> String {
    guests();
    let address = serve(Referrers::Listed, &Arc::default(), String::new());
    address.replace("127.0.0.1", "0.0.0.0")
}

fn push(home: &TempDir, image: &str, flags: &[&str]) -> Output {
    let mut command = command_in(home.path());
    command.args(["push", image, "-f", "target/spotter/hello.wasm"]).args(flags);
    command.output().expect("spotter starts")
}

#[test]
fn a_registry_that_speaks_plain_http_is_used_only_on_request() {
    let (home, image) = (tempfile::tempdir().expect("a folder"), format!("{}/app:1", registry()));
    let refused = push(&home, &image, &[]);
    assert!(!refused.status.success());
    let said = stderr(&refused);
    assert!(said.contains("over HTTPS") && said.contains("--insecure (-k)"), "{said}");
    assert_ran(&push(&home, &image, &["--insecure", "--sbom"]));
    let mut pull = command_in(home.path());
    pull.args(["registry", "pull", "-k", &image]);
    assert_ran(&pull.output().expect("spotter starts"));
    let mut up = command_in(home.path());
    up.args(["up", "-k", "--from", &image, "--listen", "127.0.0.1:0"]);
    assert_eq!(client::get(&Server::spawn(up).url("/")).body, b"hello");
}

/// Passes requests on to a registry that speaks plain HTTP. Returns the address of this proxy, whose certificate is its
/// own.
fn behind_tls(registry: String) -> String {
    let tls = SelfSigned::new().server;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&tls)).expect("a connection");
            let stream = BufReader::new(StreamOwned::new(connection, stream));
            let registry = registry.clone();
            // The client may hang up.
            std::thread::spawn(move || drop(pass_on(&registry, stream)));
        }
    });
    address
}

fn pass_on(
    registry: &str,
    mut client: BufReader<StreamOwned<ServerConnection, TcpStream>>,
) -> std::io::Result<()> {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") && client.read_line(&mut request)? > 0 {}
    let lower = request.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    client.read_exact(&mut body)?;
    let mut server = TcpStream::connect(registry)?;
    server.write_all(&[request.as_bytes(), &body].concat())?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    let client = client.get_mut();
    client.write_all(&reply)?;
    client.conn.send_close_notify();
    client.flush()
}

#[test]
fn a_certificate_that_no_authority_has_issued_is_accepted_only_on_request() {
    guests();
    let registry = serve(Referrers::Unlisted, &Arc::default(), String::new());
    let address = behind_tls(registry).replace("127.0.0.1", "0.0.0.0");
    let (home, image) = (tempfile::tempdir().expect("a folder"), format!("{address}/app:1"));
    let said = stderr(&push(&home, &image, &[]));
    assert!(said.contains("a certificate that this machine trusts"), "{said}");
    assert_ran(&push(&home, &image, &["-k", "--sbom"]));
    let pull = command_in(home.path()).args(["pull", "--insecure", &image]).output();
    assert_ran(&pull.expect("spotter starts"));
}

#[test]
fn a_registry_that_is_away_is_named_with_both_protocols() {
    let home = tempfile::tempdir().expect("a folder");
    let image = format!("0.0.0.0:{}/app:1", spotter_tests::ports::reserve());
    let said = stderr(&push(&home, &image, &["-k"]));
    assert!(said.contains("neither over HTTPS nor over plain HTTP"), "{said}");
}
