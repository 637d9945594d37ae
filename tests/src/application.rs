//! An application of a test's own, in a temporary folder, made of the guests' components.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::server::Server;
use crate::{guests, root, spotter};

/// The files beside the manifest that it can name as a component's `source`, and where they come from.
const SOURCES: [(&str, &str); 11] = [
    ("guest.wasm", "target/spotter/guest.wasm"),
    ("hello.wasm", "target/spotter/hello.wasm"),
    ("hello_p3.wasm", "target/spotter/hello_p3.wasm"),
    ("spin_sdk_5.wasm", "target/spotter/spin_sdk_5.wasm"),
    ("spin_sdk_6.wasm", "target/spotter/spin_sdk_6.wasm"),
    ("spin_sdk_7.wasm", "target/spotter/spin_sdk_7.wasm"),
    ("cgi.wasm", "target/wasm32-wasip1/component/cgi.wasm"),
    ("conformance.wasm", "target/wasm32-wasip1/component/conformance.wasm"),
    ("dependency.wasm", "target/wasm32-wasip1/component/dependency.wasm"),
    ("dependent.wasm", "target/wasm32-wasip1/component/dependent.wasm"),
    // Before it was wrapped as a component.
    ("module.wasm", "target/wasm32-wasip1/component/hello.wasm"),
];

/// A folder with a manifest.
pub struct Application(TempDir);

impl Application {
    /// An application whose manifest goes on with this text after `[application]` and its name.
    pub fn new(manifest: &str) -> Self {
        guests();
        let folder = tempfile::tempdir().expect("a folder");
        for (name, source) in SOURCES {
            std::fs::copy(root().join(source), folder.path().join(name)).expect("a component");
        }
        let head = "spin_manifest_version = 2\n[application]\nname = \"of-a-test\"\n";
        Self(folder).with("spin.toml", format!("{head}{manifest}"))
    }

    /// The same with a further file.
    pub fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("a file");
        self
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// `spotter` in the application's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(spotter());
        command.args(arguments).current_dir(self.0.path());
        command
    }

    /// Runs `spotter` in the application's folder.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("spotter starts")
    }

    /// Serves the application.
    pub fn up(&self, arguments: &[&str]) -> Server {
        Server::spawn(self.command(&[&["up", "--listen", "127.0.0.1:0"], arguments].concat()))
    }
}
