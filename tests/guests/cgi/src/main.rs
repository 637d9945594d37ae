//! A CGI program that behaves in a different way for each path after its route.

use std::io::{Read, Write, copy, stdin, stdout};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let path = std::env::var("PATH_INFO").unwrap_or_default();
    match path.as_str() {
        "/environment" => {
            let variables: Vec<String> =
                std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
            reply("Content-Type: text/plain", &variables.concat());
        }
        "/arguments" => {
            let arguments: Vec<String> = std::env::args().collect();
            reply("Content-Type: text/plain", &arguments.join("\n"));
        }
        "/file" => {
            let text = std::fs::read_to_string("/texts/one.txt").unwrap_or_default();
            reply("Content-Type: text/plain", &text);
        }
        "/length" => {
            let mut body = Vec::new();
            let read = stdin().read_to_end(&mut body).expect("a body");
            let said = std::env::var("CONTENT_LENGTH").unwrap_or_default();
            reply("Content-Type: text/plain", &format!("{read} {said}"));
        }
        "/echo" => {
            reply("Content-Type: application/octet-stream", "");
            copy(&mut stdin().lock(), &mut stdout()).expect("a body that is sent back");
        }
        "/moved" => reply("Location: /elsewhere", ""),
        "/missing" => {
            reply("Status: 404 Not Found\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r", "nothing here");
        }
        "/exit-0" => {
            reply("Content-Type: text/plain", "done");
            exit(0);
        }
        "/exit-3" => {
            reply("Content-Type: text/plain", "half");
            exit(3);
        }
        "/exit-at-once" => exit(3),
        "/silent" => {}
        "/no-header" => println!("hello\n\nworld"),
        "/smuggled" => reply("Content-Type: text/plain\nTransfer-Encoding: chunked", "plain"),
        "/events" => {
            reply("Content-Type: text/event-stream", "");
            for number in 0..3 {
                reply_part(&format!("data: {number}\n\n"));
                sleep(Duration::from_millis(500));
            }
        }
        "/large" => {
            reply("Content-Type: application/octet-stream", "");
            (0..256).for_each(|_| reply_part(&"x".repeat(64 << 10)));
        }
        "/loop" => loop {
            std::hint::black_box(());
        },
        "/grow" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        _ => reply("Content-Type: text/plain", &format!("hello from {path}")),
    }
}

fn reply(header: &str, body: &str) {
    reply_part(&format!("{header}\n\n{body}"));
}

/// Writes to the client, who may be gone.
fn reply_part(text: &str) {
    let mut out = stdout();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        exit(1);
    }
}
