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
    server.wait_for_log("reloaded the certificate");
    assert_eq!(get_labels(&server, &files[0]).expect("a reply"), 200);
    // One that cannot be read changes nothing.
    std::fs::write(&files[1], "no key").expect("a file");
    server.signal("HUP");
    server.wait_for_log("contains no private key");
    assert_eq!(get_labels(&server, &files[0]).expect("a reply"), 200);
}

#[test]
fn a_certificate_that_changes_is_read_again_without_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = certificate(folder.path());
    let server = start(&files);
    assert_eq!(get_labels(&server, &files[0]).expect("a reply"), 200);
    certificate(folder.path());
    server.wait_for_log("reloaded the certificate");
    assert_eq!(get_labels(&server, &files[0]).expect("a reply"), 200);
}

/// An authority, and a client's certificate and key that it signed.
struct Authority {
    pem: String,
    client: (Vec<u8>, Vec<u8>),
}

fn authority() -> Authority {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    let key = KeyPair::generate().expect("a key");
    let mut own = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = own.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(own, key);
    let client_key = KeyPair::generate().expect("a key");
    let mut client = CertificateParams::new(vec!["client.test".to_owned()]).expect("parameters");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = client.signed_by(&client_key, &issuer).expect("a certificate");
    Authority { pem, client: (client.pem().into_bytes(), client_key.serialize_pem().into_bytes()) }
}

/// The status of `GET /labels` with this client certificate, or with none.
fn get_as(
    server: &Server,
    certificate: &str,
    client: Option<&Authority>,
) -> Result<u16, ureq::Error> {
    use ureq::tls::{ClientCert, PrivateKey};
    let pem = std::fs::read(certificate).expect("a certificate");
    let root = Certificate::from_pem(&pem).expect("a certificate");
    let own = client.map(|Authority { client: (chain, key), .. }| {
        let chain = [Certificate::from_pem(chain).expect("a certificate").to_owned()];
        ClientCert::new_with_certs(&chain, PrivateKey::from_pem(key).expect("a key"))
    });
    let roots = RootCerts::new_with_certs(&[root]);
    let tls = TlsConfig::builder().root_certs(roots).client_cert(own).build();
    let agent: Agent = Agent::config_builder().tls_config(tls).build().into();
    let reply = agent.get(format!("https://{}/labels", server.address())).call()?;
    Ok(reply.status().as_u16())
}

#[test]
fn only_clients_of_the_authority_that_is_named_are_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let [certificate, key] = certificate(folder.path());
    let (trusted, other) = (authority(), authority());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &trusted.pem).expect("a file");
    component();
    let mut command = Command::new(spotter());
    command.args(["up", "--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key]);
    command.arg("--tls-client-ca").arg(&ca).current_dir(root());
    let server = Server::spawn(command);
    assert_eq!(get_as(&server, &certificate, Some(&trusted)).expect("a reply"), 200);
    for stranger in [None, Some(&other)] {
        assert!(get_as(&server, &certificate, stranger).is_err(), "{:?}", stranger.is_some());
    }
    // The authorities are read again with the certificate.
    std::fs::write(&ca, &other.pem).expect("a file");
    server.signal("HUP");
    server.wait_for_log("reloaded the certificate");
    assert_eq!(get_as(&server, &certificate, Some(&other)).expect("a reply"), 200);
    assert!(get_as(&server, &certificate, Some(&trusted)).is_err());
    let output = run(&["up", "--tls-client-ca", ca.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    let arguments = ["up", "--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &key];
    let output = run(&arguments);
    assert!(stderr(&output).contains("contains no certificate"), "{}", stderr(&output));
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

#[test]
fn a_client_that_offers_http_2_in_the_handshake_gets_it() {
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let folder = tempfile::tempdir().expect("a folder");
    let files = certificate(folder.path());
    let server = start(&files);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files[0]).expect("a certificate")).expect("a root");
    let config = ClientConfig::builder_with_provider(default_provider().into());
    let config = config.with_safe_default_protocol_versions().expect("a version of TLS");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let status = runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address()).await.expect("a connection");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let stream = connector.connect(name, stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        let mut requests = requests.ready().await.expect("a connection");
        let request = http::Request::get("https://127.0.0.1/labels").body(()).expect("a request");
        let (reply, _) = requests.send_request(request, true).expect("a request");
        reply.await.expect("a reply").status()
    });
    assert_eq!(status, 200);
}
