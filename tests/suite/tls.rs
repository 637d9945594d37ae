//! HTTPS with a certificate of one's own.

use std::process::Command;

use spotter_tests::server::Server;
use spotter_tests::system::program;
use spotter_tests::{component, raw, root, run, spotter, stderr};

/// A certificate for localhost, and its key.
fn certificate(folder: &std::path::Path) -> [String; 2] {
    let [certificate, key] =
        ["cert.pem", "key.pem"].map(|name| folder.join(name).to_str().expect("a path").to_owned());
    let made = Command::new(program("openssl", "openssl"))
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "1", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl starts");
    assert!(made.status.success(), "{}", stderr(&made));
    [certificate, key]
}

#[test]
fn a_server_with_a_certificate_speaks_https() {
    component();
    let folder = tempfile::tempdir().expect("a folder");
    let [certificate, key] = certificate(folder.path());
    let mut command = Command::new(spotter());
    command.args(["up", "--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key]);
    command.current_dir(root());
    let server = Server::spawn(command);
    let port = server.address().rsplit(':').next().expect("a port").to_owned();
    let curl = |scheme: &str| {
        Command::new(program("curl", "curl"))
            .args(["--silent", "--fail", "--max-time", "20", "--cacert", &certificate])
            .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
            .arg(format!("{scheme}://localhost:{port}/healthz"))
            .output()
            .expect("curl starts")
    };
    let reply = curl("https");
    assert!(reply.status.success() && !reply.stdout.is_empty(), "{}", stderr(&reply));
    assert!(!curl("http").status.success(), "plain HTTP on a port for HTTPS");
    // A client that says nothing, and one that speaks nonsense, keep nobody from it.
    let _silent = raw::connect(server.address());
    let mut nonsense = raw::connect(server.address());
    raw::send(&mut nonsense, &[0xff; 600]);
    assert!(curl("https").status.success());
}

#[test]
fn a_certificate_that_is_none_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let [certificate, key] = certificate(folder.path());
    component();
    let output = run(&["up", "--tls-cert", "README.md", "--tls-key", &key]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("README.md holds no certificate"), "{}", stderr(&output));
    let output = run(&["up", "--tls-cert", &certificate]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
}
