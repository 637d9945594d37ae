//! `spotter node install --label`: the Kubernetes API as a pod sees it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use spotter_tests::{elf, spotter, stderr, stdout};
use tempfile::TempDir;
use tokio_rustls::rustls::{ServerConnection, StreamOwned};

use crate::self_signed::SelfSigned;

/// A request that the API server got.
struct Received {
    line: String,
    headers: String,
    body: Value,
}

/// A stand-in for an API server, which answers every request with a status, and a pod's service account for it.
struct Api {
    folder: TempDir,
    port: u16,
    received: Receiver<Received>,
}

impl Api {
    fn start(status: &'static str) -> Self {
        let made = SelfSigned::new();
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.crt"), made.pem).expect("a file");
        fs::write(folder.path().join("token"), "a.b.c\n").expect("a file");
        fs::write(folder.path().join("shim"), elf::amd64()).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection =
                    ServerConnection::new(Arc::clone(&made.server)).expect("a connection");
                let mut stream = BufReader::new(StreamOwned::new(connection, stream));
                let Ok(request) = receive(&mut stream) else { continue };
                let reply = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: 7\r\nconnection: close\r\n\r\nbecause"
                );
                let _ = stream.get_mut().write_all(reply.as_bytes());
                let _ = sender.send(request);
            }
        });
        Self { folder, port, received }
    }

    fn run(&self, command: &str, further: &[&str]) -> Output {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let mut spotter = Command::new(spotter());
        spotter.args(["node", command, "--root", &at("root"), "--label", "node-1"]);
        spotter.args(["--service-account", &at("")]).args(further);
        if command == "install" {
            spotter.args(["--binary", &at("shim")]);
        }
        spotter.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        spotter.env("KUBERNETES_SERVICE_PORT", self.port.to_string());
        spotter.output().expect("spotter starts")
    }
}

fn receive(stream: &mut impl BufRead) -> std::io::Result<Received> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        if stream.read_line(&mut headers)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let headers = headers.to_lowercase();
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body)?;
    Ok(Received { line: line.trim().to_owned(), headers, body: serde_json::from_slice(&body)? })
}

#[test]
fn a_node_is_labelled_when_it_is_ready_and_no_longer_before_it_is_not() {
    let api = Api::start("200 OK");
    let installed = api.run("install", &[]);
    assert!(installed.status.success(), "{}", stderr(&installed));
    assert!(stdout(&installed).ends_with("labelled the node node-1 spotter-runtime=installed\n"));
    let uninstalled = api.run("uninstall", &[]);
    assert!(uninstalled.status.success(), "{}", stderr(&uninstalled));
    assert!(
        stdout(&uninstalled).starts_with("removed the label spotter-runtime of the node node-1")
    );
    for label in [json!("installed"), Value::Null] {
        let request = api.received.try_recv().expect("a request");
        assert_eq!(request.line, "PATCH /api/v1/nodes/node-1 HTTP/1.1");
        for header in ["authorization: bearer a.b.c", "content-type: application/merge-patch+json"]
        {
            assert!(request.headers.contains(header), "{}", request.headers);
        }
        assert_eq!(request.body, json!({"metadata": {"labels": {"spotter-runtime": label}}}));
    }
    // A dry run asks nobody.
    assert!(api.run("install", &["--dry-run"]).status.success());
    assert!(api.received.try_recv().is_err());
}

#[test]
fn an_api_server_that_refuses_or_another_one_fails_the_installation() {
    let api = Api::start("403 Forbidden");
    let refused = api.run("install", &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("403 Forbidden: because"), "{}", stderr(&refused));
    // No token is sent to a server with another certificate.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("one");
    fs::write(api.folder.path().join("ca.crt"), other.cert.pem()).expect("a file");
    api.received.try_recv().expect("the first request");
    let refused = api.run("install", &[]);
    assert!(stderr(&refused).contains("no answer to PATCH"), "{}", stderr(&refused));
    assert!(api.received.try_recv().is_err());
    fs::remove_file(api.folder.path().join("token")).expect("a file");
    assert!(stderr(&api.run("install", &[])).contains("cannot read the service account's"));
    let mut elsewhere = Command::new(spotter());
    elsewhere.args(["node", "uninstall", "--label", "node-1", "--root"]).arg(api.folder.path());
    let elsewhere = elsewhere.env_remove("KUBERNETES_SERVICE_HOST").output();
    let said = stderr(&elsewhere.expect("spotter starts"));
    assert!(said.contains("--label works only in a pod"), "{said}");
}
