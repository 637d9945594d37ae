//! A running `spotter up`, on a port of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use crate::{component, root, spotter};

/// A server process; stopped when dropped.
pub struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Starts `spotter up` on the workspace's application with these further arguments, and waits
    /// until it says where it listens.
    pub fn start(arguments: &[&str]) -> Self {
        component();
        let mut command = Command::new(spotter());
        command.arg("up").args(arguments).args(["--listen", "127.0.0.1:0"]).current_dir(root());
        Self::spawn(command)
    }

    /// Starts a command that prints `http://ADDRESS` somewhere in a line of its standard output.
    pub fn spawn(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(process.stdout.take().expect("standard output")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("http://")?.1.trim_end_matches('/').to_owned()))
            .expect("the server says where it listens");
        // Read on, so that the server never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }

    /// A server that is already running.
    pub fn of(process: Child, address: String) -> Self {
        Self { process, address }
    }

    /// The one server that tests share which only ask.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(&[]))
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a path and query.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -s {name}");
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().expect("the server ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
