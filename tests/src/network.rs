//! A network for a container that a test starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stderr;

/// A network namespace with one link to the outside.
pub struct Network {
    name: String,
    address: String,
}

impl Network {
    /// Creates a network. `number` (below 60) distinguishes the networks of one test.
    pub fn new(number: u32) -> Self {
        let unique = std::process::id() % 10_000 * 60 + number;
        let (third, fourth) = ((unique / 60) % 250, number * 4);
        let network = Self {
            name: format!("spotter{unique}"),
            address: format!("10.49.{third}.{}", fourth + 2),
        };
        let (outer, inner) = (format!("sp{unique}o"), format!("sp{unique}i"));
        let gateway = format!("10.49.{third}.{}/30", fourth + 1);
        let address = format!("{}/30", network.address);
        let name = network.name.as_str();
        for arguments in [
            vec!["netns", "add", name],
            vec!["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", name],
            vec!["address", "add", &gateway, "dev", &outer],
            vec!["link", "set", &outer, "up"],
            vec!["-n", name, "address", "add", &address, "dev", &inner],
            vec!["-n", name, "link", "set", &inner, "up"],
            vec!["-n", name, "link", "set", "lo", "up"],
        ] {
            let done = Command::new("ip").args(&arguments).output().expect("ip starts");
            assert!(done.status.success(), "ip {arguments:?}: {}", stderr(&done));
        }
        network
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/var/run/netns").join(&self.name)
    }

    /// The URL of a path on the port that pods listen on.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of a path on the admin listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}:3001{path}", self.address)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}
