//! `spotter login` on a terminal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use spotter_tests::home::command_in;

const PASSWORD: &str = "a-very-secret-word";

/// A registry that requires this user and password, and has no image.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address").to_string();
    let expected = base64_of(&format!("user:{PASSWORD}"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
            let lines = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
            let is_known = lines.filter(|line| line.contains(&expected)).count() > 0;
            let status = if is_known { "404 Not Found" } else { "401 Unauthorized" };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nwww-authenticate: Basic realm=\"test\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
    });
    address
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
#[cfg_attr(not(script), ignore = "needs util-linux's `script`")]
fn a_password_that_is_typed_is_not_shown() {
    let (home, registry) = (tempfile::tempdir().expect("a folder"), registry());
    let login = command_in(home.path());
    let line = format!("{} login {registry} --username user", login.get_program().display());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    for (name, value) in login.get_envs() {
        terminal.env(name, value.unwrap_or_default());
    }
    let terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut terminal = terminal.expect("script starts");
    let (mut keyboard, mut screen) =
        (terminal.stdin.take().expect("an input"), terminal.stdout.take().expect("an output"));
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"Password for user at ") && screen.read(&mut byte).expect("text") == 1 {
        seen.push(byte[0]);
    }
    while byte[0] != b' ' || seen.ends_with(b"at ") {
        assert_eq!(screen.read(&mut byte).expect("text"), 1);
        seen.push(byte[0]);
    }
    // The prompt is shown before the echo is off.
    std::thread::sleep(std::time::Duration::from_millis(300));
    writeln!(keyboard, "{PASSWORD}").expect("a password");
    screen.read_to_end(&mut seen).expect("text");
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(terminal.wait().expect("an end").success(), "{seen}");
    assert!(seen.contains("Logged in") && !seen.contains(PASSWORD), "{seen}");
    let kept = std::fs::read_to_string(home.path().join("config/spotter/logins.json"));
    assert!(kept.expect("a file").contains(PASSWORD));
}
