//! Two servers of one application, with and without TLS: the detector, and a component that misbehaves.

use std::process::Command;

use spotter_tests::server::Server;
use spotter_tests::{component, guests, root, spotter};
use tempfile::TempDir;

pub struct Servers {
    pub plain: Server,
    pub tls: Server,
    /// The certificate of the server with TLS, in PEM.
    pub certificate: String,
    _folder: TempDir,
}

impl Servers {
    pub fn start() -> Self {
        component();
        guests();
        let folder = tempfile::tempdir().expect("a folder");
        let built = root().join("target/spotter");
        let manifest = MANIFEST.replace("BUILT", built.to_str().expect("a path"));
        std::fs::write(folder.path().join("spin.toml"), manifest).expect("a manifest");
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.pem();
        std::fs::write(folder.path().join("cert.pem"), &certificate).expect("a file");
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())
            .expect("a file");
        let start = |arguments: &[&str]| {
            let mut command = Command::new(spotter());
            command.args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
            command.args(["--request-cpu", "1s", "--quiet"]);
            command.args(arguments).current_dir(folder.path());
            Server::spawn(command)
        };
        let plain = start(&["--state-dir", "plain"]);
        let tls = start(&["--state-dir", "tls", "--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
        Self { plain, tls, certificate, _folder: folder }
    }

    pub fn plain_url(&self, path: &str) -> String {
        self.plain.url(path)
    }

    /// Resident memory of each server, and the files that both have open.
    pub fn resources(&self) -> String {
        let memory = |server: &Server| server.resident() as f64 / 1e6;
        let files = |server: &Server| {
            std::fs::read_dir(format!("/proc/{}/fd", server.pid())).map_or(0, Iterator::count)
        };
        format!(
            "{:.0} MB | {:.0} MB | {}",
            memory(&self.plain),
            memory(&self.tls),
            files(&self.plain) + files(&self.tls)
        )
    }

    pub fn terminate(&self) {
        self.plain.signal("TERM");
        self.tls.signal("TERM");
    }

    pub fn wait(&mut self) {
        for server in [&mut self.plain, &mut self.tls] {
            let status = server.wait();
            assert!(status.success(), "a server ended with {status}");
        }
    }
}

const MANIFEST: &str = r#"
spin_manifest_version = 2

[application]
name = "soak"
version = "0.1.0"

[[trigger.http]]
route = "/..."
component = "detector"

[[trigger.http]]
route = "/guest/..."
component = "guest"

[component.detector]
source = "BUILT/detector.wasm"

[component.detector.tool.spotter]
interruption = "watchdog"

[component.guest]
source = "BUILT/guest.wasm"
key_value_stores = ["default"]
"#;
