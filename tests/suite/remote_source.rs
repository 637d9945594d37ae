//! `source = { url, digest }`: components that are downloaded when the application is loaded.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spotter_tests::application::Application;
use spotter_tests::oci::digest;
use spotter_tests::server::Server;
use spotter_tests::{client, guests, root, stderr};
use tempfile::TempDir;

/// The files that the server has.
const FILES: [(&str, &str); 2] = [
    ("/component.wasm", "target/spotter/hello.wasm"),
    ("/dependency.wasm", "target/wasm32-wasip1/component/dependency.wasm"),
];

/// A server that has these files, and redirects `/latest.wasm` to `/component.wasm`.
struct Downloads {
    address: String,
    /// How many files were sent.
    sent: Arc<AtomicUsize>,
}

impl Downloads {
    fn start() -> Self {
        guests();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // The client may hang up.
                drop(answer(stream, &counter));
            }
        });
        Self { address, sent }
    }

    /// The table that names the file at this path, with this digest.
    fn table(&self, path: &str, digest: &str) -> String {
        format!("{{ url = \"http://{}{path}\", digest = {digest:?} }}", self.address)
    }

    /// An application whose only component is at this path, and should have this digest.
    fn application(&self, path: &str, digest: &str) -> RemoteApplication {
        RemoteApplication::new(&format!("source = {}\n", self.table(path, digest)))
    }
}

fn content(path: &str) -> Option<Vec<u8>> {
    let (_, file) = FILES.iter().find(|(name, _)| *name == path)?;
    Some(std::fs::read(root().join(file)).expect("a component"))
}

/// The digest of a file that the server has.
fn digest_of(path: &str) -> String {
    digest(&content(path).expect("a file"))
}

fn answer(mut stream: TcpStream, sent: &AtomicUsize) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match content(path) {
        Some(content) => ("200 OK", content),
        None if path == "/latest.wasm" => ("302 Found\r\nlocation: /component.wasm", Vec::new()),
        None => ("404 Not Found", Vec::new()),
    };
    if !body.is_empty() {
        sent.fetch_add(1, Ordering::Relaxed);
    }
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
    stream.write_all(&body)
}

/// An application with a cache of its own.
struct RemoteApplication {
    application: Application,
    cache: TempDir,
}

impl RemoteApplication {
    /// With one component, whose table has these keys.
    fn new(component: &str) -> Self {
        let application = Application::new(&format!(
            "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"remote\"\n[component.remote]\n{component}"
        ));
        Self { application, cache: tempfile::tempdir().expect("a folder") }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.application.command(arguments);
        command.env("XDG_CACHE_HOME", self.cache.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("spotter starts")
    }

    fn reply(&self) -> String {
        let server = Server::spawn(self.command(&["up", "--listen", "127.0.0.1:0"]));
        String::from_utf8(client::get(&server.url("/")).body).expect("text")
    }
}

#[test]
fn a_component_from_a_url_is_downloaded_once_and_served() {
    let downloads = Downloads::start();
    let application = downloads.application("/latest.wasm", &digest_of("/component.wasm"));
    assert_eq!(application.reply().trim(), "hello");
    assert_eq!(application.reply().trim(), "hello");
    assert_eq!(downloads.sent.load(Ordering::Relaxed), 1);
    // An image contains it, so that a pod downloads nothing.
    let image = application.run(&["image", "-o", "image.tar"]);
    assert!(image.status.success(), "{}", stderr(&image));
    assert_eq!(downloads.sent.load(Ordering::Relaxed), 1);
}

#[test]
fn a_component_with_another_digest_is_refused_and_not_kept() {
    let downloads = Downloads::start();
    let expected = digest(b"another component");
    let application = downloads.application("/component.wasm", &expected);
    for attempt in 1..=2 {
        let check = application.run(&["check"]);
        let errors = stderr(&check);
        assert_eq!(check.status.code(), Some(1), "{errors}");
        assert!(errors.contains(&expected), "{errors}");
        assert!(errors.contains(&digest_of("/component.wasm")), "{errors}");
        assert!(errors.contains("[component.remote]"), "{errors}");
        assert_eq!(downloads.sent.load(Ordering::Relaxed), attempt);
    }
    let kept = application.cache.path().join("spotter/downloads");
    assert_eq!(std::fs::read_dir(kept).expect("a folder").count(), 0);
}

#[test]
fn a_source_that_cannot_be_downloaded_is_refused_with_the_reason() {
    let downloads = Downloads::start();
    let known = digest_of("/component.wasm");
    let missing = downloads.application("/nothing.wasm", &known).run(&["check"]);
    assert!(stderr(&missing).contains("404 Not Found"), "{}", stderr(&missing));
    let built = downloads.table("/component.wasm", &known) + "\nbuild = { command = \"true\" }";
    for (source, reason) in [
        (built.as_str(), "nothing for `build` to build"),
        (r#"{ url = "https://a.invalid/b.wasm" }"#, "no `digest`"),
        (r#"{ url = "https://a.invalid/b.wasm", digest = "md5:00" }"#, "md5:00"),
        (r#"{ registry = "a.invalid", package = "b:c", version = "1.0.0" }"#, "wkg get"),
    ] {
        let check = RemoteApplication::new(&format!("source = {source}\n")).run(&["check"]);
        assert!(stderr(&check).contains(reason), "{source}: {}", stderr(&check));
    }
    let unreachable = format!(r#"{{ url = "http://127.0.0.1:1/c.wasm", digest = "{known}" }}"#);
    let check = RemoteApplication::new(&format!("source = {unreachable}\n")).run(&["check"]);
    assert!(
        stderr(&check).contains("cannot reach http://127.0.0.1:1/c.wasm"),
        "{}",
        stderr(&check)
    );
}

#[test]
fn a_dependency_from_a_url_is_composed_with_its_component() {
    let downloads = Downloads::start();
    let dependency = downloads.table("/dependency.wasm", &digest_of("/dependency.wasm"));
    let application = RemoteApplication::new(&format!(
        "source = \"dependent.wasm\"\n[component.remote.dependencies]\n\"example:sums\" = {dependency}\n"
    ));
    let reply = application.reply();
    assert!(reply.starts_with("5 "), "{reply}");
    assert_eq!(downloads.sent.load(Ordering::Relaxed), 1);
}
