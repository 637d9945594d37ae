//! A running `spotter up`, on a separate port.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{client, component, guests, root, spotter};

/// A server process, stopped when dropped.
pub struct Server {
    process: Child,
    address: String,
    /// The address of the admin listener, if there is one.
    admin: Option<String>,
    /// Its standard error, by line.
    log: Arc<Mutex<Vec<String>>>,
    /// The temporary folder of its state, if it has one.
    _state: Option<TempDir>,
}

/// What becomes of a server's standard error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ErrorOutput {
    /// It is the log.
    Read,
    /// It stays in the pipe, which soon is full.
    Unread,
}

impl Server {
    /// Starts `spotter up` on the workspace's application with further arguments, and waits until it prints its
    /// address.
    pub fn start(arguments: &[&str]) -> Self {
        component();
        let mut command = Command::new(spotter());
        command.arg("up").args(arguments).args(["--listen", "127.0.0.1:0"]).current_dir(root());
        Self::spawn(command)
    }

    /// Starts `spotter up` on the application of guests that misbehave, with an admin listener.
    pub fn guests(arguments: &[&str]) -> Self {
        Self::guests_by(Command::new(spotter()), arguments)
    }

    /// The same, with `up` and its arguments added to this command.
    pub fn guests_by(command: Command, arguments: &[&str]) -> Self {
        Self::guests_with(command, arguments, ErrorOutput::Read)
    }

    /// Starts the same application, and never reads its standard error.
    pub fn guests_unread(arguments: &[&str]) -> Self {
        Self::guests_with(Command::new(spotter()), arguments, ErrorOutput::Unread)
    }

    fn guests_with(mut command: Command, arguments: &[&str], errors: ErrorOutput) -> Self {
        guests();
        command.args([
            "up",
            "-f",
            "tests/guests",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        let state = tempfile::tempdir().expect("a folder");
        if !arguments.contains(&"--state-dir") {
            command.arg("--state-dir").arg(state.path());
        }
        command.args(arguments).current_dir(root());
        let mut server = Self::launch(command, errors);
        server._state = Some(state);
        server
    }

    /// Starts a command that prints `Serving http://ADDRESS` to its standard output, preceded by `Admin on ADDRESS:`
    /// if it has an admin listener. On a Unix socket, the address is `unix:PATH`.
    pub fn spawn(command: Command) -> Self {
        Self::launch(command, ErrorOutput::Read)
    }

    fn launch(mut command: Command, errors: ErrorOutput) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the server starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        if errors == ErrorOutput::Read {
            let errors = BufReader::new(process.stderr.take().expect("standard error")).lines();
            let kept = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in errors.map_while(Result::ok) {
                    kept.lock().expect("a log").push(line);
                }
            });
        }
        let mut lines = BufReader::new(process.stdout.take().expect("standard output")).lines();
        let mut admin = None;
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            if let Some(rest) = line.strip_prefix("Admin on ") {
                admin = rest.split(": ").next().map(str::to_owned);
            }
            let socket = line.strip_prefix("Serving http on ").map(str::to_owned);
            socket.or_else(|| Some(line.split_once("://")?.1.trim_end_matches('/').to_owned()))
        });
        let address = address
            .unwrap_or_else(|| panic!("it does not serve: {:?}", log.lock().expect("a log")));
        // Keep reading, so that the server is never blocked by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address, admin, log, _state: None }
    }

    /// A server that was started elsewhere.
    pub fn of(process: Child, address: String) -> Self {
        Self { process, address, admin: None, log: Arc::default(), _state: None }
    }

    /// The server that all tests share, except those that need one of their own. Statics are not dropped when this
    /// process ends, so a shell kills the server when its own standard input, which this process holds open, is closed.
    pub fn shared() -> &'static Self {
        const UNTIL_END_OF_INPUT: &str = r#""$@" & read _; kill -9 $!"#;
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| {
            component();
            let mut command = Command::new("sh");
            command.args(["-c", UNTIL_END_OF_INPUT, "sh"]).arg(spotter());
            command.args(["up", "--listen", "127.0.0.1:0"]).current_dir(root());
            command.stdin(Stdio::piped());
            Self::spawn(command)
        })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of a path and query.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of a path on the admin listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin.as_deref().expect("an admin listener"))
    }

    /// The value of a metric, by its name and labels as they are written; 0 if there is no such metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = client::get(&self.admin_url("/metrics")).body;
        let text = String::from_utf8(text).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until a metric has this value.
    pub fn wait_for_metric(&self, name: &str, value: f64) {
        let began = Instant::now();
        while self.metric(name) != value {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{name} is {}, not {value}",
                self.metric(name)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("a log").join("\n")
    }

    /// Waits until its log contains this text.
    pub fn wait_for_log(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(began.elapsed() < Duration::from_secs(20), "no {text:?} in {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Anonymous memory in bytes, without the files that are mapped; Linux only.
    pub fn anonymous(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status");
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next());
        kilobytes.and_then(|number| number.parse::<u64>().ok()).expect("a number") << 10
    }

    /// Resident memory, in bytes; Linux only.
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("statm");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's builtin: a small system may have no program `kill`.
        let kill = format!("kill -s {name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &kill]).status();
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
