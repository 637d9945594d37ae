//! HTTPS with the user's own certificate.

use std::path::Path;
use std::process::Command;

use spotter_tests::server::Server;
use spotter_tests::{component, raw, root, run, spotter, stderr};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A certificate for 127.0.0.1, and its key.
fn certificate(folder: &Path) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())].map(
        |(name, content)| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("a file");
            path.to_str().expect("a path").to_owned()
        },
    )
}

/// A client that trusts only this certificate.
fn client(certificate: &str) -> Agent {
    let pem = std::fs::read(certificate).expect("a certificate");
    let root = Certificate::from_pem(&pem).expect("a certificate");
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).build();
    Agent::config_builder().tls_config(tls).build().into()
}

/// Starts the detector with this certificate and key.
fn start([certificate, key]: &[String; 2]) -> Server {
    component();
    let mut command = Command::new(spotter());
    command.args(["up", "--listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]);
    command.current_dir(root());
    Server::spawn(command)
}

/// The status of `GET /labels`, from a server with this certificate.
fn get_labels(server: &Server, certificate: &str) -> Result<u16, ureq::Error> {
    let reply = client(certificate).get(format!("https://{}/labels", server.address())).call()?;
    Ok(reply.status().as_u16())
}

#[test]
fn a_handshake_that_began_before_the_signal_to_stop_is_finished_and_its_request_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = certificate(folder.path());
    let mut server = start(&files);
    server.signal("STOP");
    let lost = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..20).map(|_| scope.spawn(|| get_labels(&server, &files[0]).ok())).collect();
        // The clients connect, send the beginning of the handshake, and wait.
        std::thread::sleep(std::time::Duration::from_millis(500));
        server.signal("TERM");
        server.signal("CONT");
        clients
            .into_iter()
            .filter_map(|client| client.join().ok())
            .filter(|s| *s != Some(200))
            .count()
    });
    assert_eq!(lost, 0);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_hangup_reads_the_certificate_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = certificate(folder.path());
    let server = start(&files);
    assert_eq!(get_labels(&server, &files[0]).expect("a reply"), 200);
    certificate(folder.path());
    assert!(get_labels(&server, &files[0]).is_err(), "a certificate that is not in use yet");
    server.signal("HUP");
    server.wait_for_log("the certificate was read again");
    assert_eq!(get_labels(&server, &files[0]).expect("a reply"), 200);
    // One that cannot be read changes nothing.
    std::fs::write(&files[1], "no key").expect("a file");
    server.signal("HUP");
    server.wait_for_log("contains no private key");
    assert_eq!(get_labels(&server, &files[0]).expect("a reply"), 200);
}

#[test]
fn a_server_with_a_certificate_speaks_https() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = certificate(folder.path());
    let server = start(&files);
    let [certificate, _] = files;
    let get = |scheme: &str| {
        client(&certificate).get(format!("{scheme}://{}/healthz", server.address())).call()
    };
    assert_eq!(get("https").expect("a reply").status(), 200);
    assert!(get("http").is_err(), "plain HTTP on a port for HTTPS");
    // A client that sends nothing, and one that sends nonsense, do not block others.
    let _silent = raw::connect(server.address());
    let mut nonsense = raw::connect(server.address());
    raw::send(&mut nonsense, &[0xff; 600]);
    assert!(get("https").is_ok());
}

#[test]
fn a_certificate_that_is_none_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let [certificate, key] = certificate(folder.path());
    component();
    let output = run(&["up", "--tls-cert", "README.md", "--tls-key", &key]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("README.md contains no certificate"), "{}", stderr(&output));
    let output = run(&["up", "--tls-cert", &certificate]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
}
