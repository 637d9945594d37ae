//! A real registry, started by a test: Debian's docker-registry.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{ports, system};

/// A registry on a separate port, with its data in a temporary folder.
pub struct Registry {
    process: Child,
    pub address: String,
    folder: TempDir,
}

impl Registry {
    /// Starts a registry. If a line of htpasswd is given, it requires that login.
    pub fn start(login: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = format!("127.0.0.1:{}", ports::reserve());
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}, delete: {{enabled: true}}}}\nhttp: {{addr: '{address}'}}\n",
            folder.path().display()
        );
        if let Some(login) = login {
            let file = folder.path().join("htpasswd");
            fs::write(&file, login).expect("a file");
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        }
        let file = folder.path().join("config.yml");
        fs::write(&file, config).expect("a file");
        let process = Command::new(system::program("docker-registry", "docker-registry"))
            .arg("serve")
            .arg(file)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the registry starts");
        let began = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "the registry does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, address, folder }
    }

    /// The reference of an image in this registry.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The file of a layer in its storage.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let digest = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&digest[..2]).join(digest).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
