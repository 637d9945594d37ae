//! Registries that require a token: what `spotter` sends them, and what happens if their token is invalid.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use spotter_tests::home::{assert_ran, run_in};
use spotter_tests::{guests, stderr};

/// What the token server replies.
#[derive(Clone, Copy)]
enum TokenReply {
    Text(&'static str),
    /// With this status, and a body that has no end.
    Endless(u16),
}

/// A registry that accepts any image from clients with the token `good`, and serves it to them.
struct TokenRegistry {
    address: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The requests, each with its token.
    requests: Mutex<Vec<(String, Option<String>)>>,
    /// The manifest that was pushed.
    manifest: Mutex<Vec<u8>>,
    /// How many bytes of an endless reply were sent.
    sent: AtomicU64,
}

impl TokenRegistry {
    fn start(reply: TokenReply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        let seen = Arc::new(Seen::default());
        let (all, own) = (Arc::clone(&seen), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, own) = (Arc::clone(&all), own.clone());
                // The client may hang up.
                std::thread::spawn(move || drop(answer(&seen, &own, reply, stream)));
            }
        });
        Self { address, seen }
    }

    fn run(&self, command: &[&str]) -> Output {
        let home = tempfile::tempdir().expect("a folder");
        let image = format!("{}/app:1", self.address);
        run_in(home.path(), &[&command[..1], &[image.as_str()], &command[1..]].concat())
    }

    /// The paths of requests for this registry's images, all of which had the token.
    fn requests(&self) -> Vec<String> {
        let requests = self.seen.requests.lock().expect("no panic");
        let of_images = requests.iter().filter(|(request, _)| request.contains("/v2/app/"));
        let of_images = of_images.inspect(|(request, token)| {
            assert_eq!(token.as_deref(), Some("Bearer good"), "{request}");
        });
        of_images.map(|(request, _)| request.clone()).collect()
    }
}

fn answer(seen: &Seen, own: &str, reply: TokenReply, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = head.rsplit_once(" HTTP").map_or(head.as_str(), |(request, _)| request);
    let request = request.lines().next().unwrap_or_default().replace(" HTTP/1.1", "");
    let token = header("authorization");
    seen.requests.lock().expect("no panic").push((request.clone(), token.clone()));
    let mut reply_with = |status: &str, headers: &str, body: &[u8]| {
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        )?;
        stream.write_all(body)
    };
    let challenge = format!(
        "www-authenticate: Basic realm=\"x\"\r\n\
         www-authenticate: Bearer realm=\"http://{own}/token?a=b\",service=\"of tokens\"\r\n"
    );
    if request.contains("/token") {
        return match reply {
            TokenReply::Text(text) => reply_with("200", "", text.as_bytes()),
            TokenReply::Endless(status) => {
                write!(stream, "HTTP/1.1 {status} x\r\nconnection: close\r\n\r\n{{")?;
                let piece = vec![b' '; 64 << 10];
                while seen.sent.load(Ordering::Relaxed) < 1 << 30 {
                    stream.write_all(&piece)?;
                    seen.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                Ok(())
            }
        };
    }
    if token.as_deref() != Some("Bearer good") {
        return reply_with("401", &challenge, b"");
    }
    let location = format!("location: http://{own}/v2/app/blobs/uploads/1\r\n");
    match request.split_once(' ').unwrap_or_default() {
        ("POST", _) => reply_with("202", &location, b""),
        ("PATCH", _) => reply_with("202", &location, b""),
        ("PUT", path) => {
            if path.contains("/manifests/") {
                *seen.manifest.lock().expect("no panic") = body;
            }
            reply_with("201", &location, b"")
        }
        ("GET", path) if path.contains("/manifests/") => {
            let manifest = seen.manifest.lock().expect("no panic").clone();
            reply_with(if manifest.is_empty() { "404" } else { "200" }, "", &manifest)
        }
        _ => reply_with("404", "", b""),
    }
}

#[test]
fn a_token_is_asked_for_as_the_registry_says_and_sent_with_every_request() {
    guests();
    for reply in ["{\"token\": \"good\", \"expires_in\": 60}", "{\"access_token\": \"good\"}"] {
        let registry = TokenRegistry::start(TokenReply::Text(reply));
        assert_ran(&registry.run(&["push", "-f", "target/spotter/hello.wasm"]));
        assert!(registry.requests().iter().any(|request| request.starts_with("PUT")));
        let missing = registry.run(&["pull"]);
        // The layers do not exist.
        assert_eq!(missing.status.code(), Some(1));
        assert!(stderr(&missing).contains("404"), "{}", stderr(&missing));
        assert!(registry.requests().iter().any(|request| request.contains("GET /v2/app/blobs/")));
        let requests = registry.seen.requests.lock().expect("no panic");
        let asked = requests.iter().map(|(request, _)| request.as_str());
        let asked: Vec<_> = asked.filter(|request| request.contains("/token")).collect();
        for actions in ["pull%2Cpush", "pull"] {
            let whole =
                format!("GET /token?a=b&scope=repository%3Aapp%3A{actions}&service=of+tokens");
            assert!(asked.contains(&whole.as_str()), "{asked:?}");
        }
    }
}

#[test]
fn a_token_without_an_end_is_refused() {
    guests();
    for command in [&["pull"][..], &["push", "-f", "target/spotter/hello.wasm"]] {
        for (status, reason) in [(200, "has more than 1048576 bytes"), (403, "are you logged in")] {
            let registry = TokenRegistry::start(TokenReply::Endless(status));
            let output = registry.run(command);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(reason), "{said}");
            // What the sockets' buffers hold, at most.
            let sent = registry.seen.sent.load(Ordering::Relaxed);
            assert!(sent < 32 << 20, "{sent}");
        }
    }
}

#[test]
fn a_token_that_is_none_is_refused() {
    for (reply, reason) in [
        ("", "a token reply that cannot be parsed"),
        ("[]", "a token reply that cannot be parsed"),
        ("{}", "a reply without a token"),
        ("{\"token\": \"a\\nb\"}", "cannot be part of a header"),
    ] {
        let output = TokenRegistry::start(TokenReply::Text(reply)).run(&["pull"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason), "{said}");
    }
}
