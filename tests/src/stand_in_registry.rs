//! A registry that keeps in memory what is pushed to it, with or without lists of referrers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::oci::digest;

/// What a registry does with a manifest that refers to another.
#[derive(Clone, Copy, PartialEq)]
pub enum Referrers {
    /// It lists the manifest, and says so.
    Listed,
    /// It stores the manifest like any other.
    Unlisted,
    Refused,
}

/// What a registry has of its repository `app`.
#[derive(Default)]
pub struct Content {
    /// By tag and by digest.
    pub manifests: BTreeMap<String, Vec<u8>>,
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// What has been uploaded of each blob.
    uploads: Vec<Vec<u8>>,
    /// The servers that got credentials.
    pub trusted: BTreeSet<String>,
}

/// Serves this content, and returns the address. Blobs are to be uploaded to the server with the URL `uploads_at`, which
/// is empty for this one.
pub fn serve(referrers: Referrers, content: &Arc<Mutex<Content>>, uploads_at: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address").to_string();
    let content = Arc::clone(content);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (content, uploads_at) = (Arc::clone(&content), uploads_at.clone());
            // The client may hang up.
            std::thread::spawn(move || drop(answer(referrers, &content, &uploads_at, stream)));
        }
    });
    address
}

/// JSON in these bytes.
pub fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// The status of a reply, a line of its head, and its body.
type Reply = (u16, String, Vec<u8>);

fn answer(
    referrers: Referrers,
    content: &Mutex<Content>,
    uploads_at: &str,
    mut stream: TcpStream,
) -> std::io::Result<()> {
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
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.strip_prefix("/v2/app/").unwrap_or_default();
    let (status, line, body) = {
        let mut content = content.lock().expect("no panic");
        if header("authorization").is_some() {
            content.trusted.insert(header("host").unwrap_or_default());
        }
        if let Some(upload) = path.strip_prefix("blobs/uploads/") {
            reply_to_upload(&mut content, uploads_at, upload, method, &body)
        } else if method == "PUT" {
            put_manifest(&mut content, referrers, path, body)
        } else {
            get(&content, path)
        }
    };
    let length = body.len();
    let head = "connection: close\r\ncontent-length";
    write!(stream, "HTTP/1.1 {status} x\r\n{head}: {length}\r\n{line}\r\n")?;
    if method == "HEAD" { Ok(()) } else { stream.write_all(&body) }
}

fn get(content: &Content, path: &str) -> Reply {
    let found = match path.split_once('/') {
        Some(("manifests", version)) => content.manifests.get(version),
        Some((_, digest)) => content.blobs.get(digest),
        // The request that finds out how the registry authenticates.
        None => return (200, String::new(), Vec::new()),
    };
    found.map_or((404, String::new(), Vec::new()), |bytes| (200, String::new(), bytes.clone()))
}

fn put_manifest(
    content: &mut Content,
    referrers: Referrers,
    path: &str,
    manifest: Vec<u8>,
) -> Reply {
    let subject = json_of(&manifest)["subject"]["digest"].as_str().map(str::to_owned);
    if subject.is_some() && referrers == Referrers::Refused {
        let reason = json!({"code": "MANIFEST_INVALID", "message": "no \u{1b}subjects here"});
        return (400, String::new(), json!({"errors": [reason]}).to_string().into());
    }
    let version = path.strip_prefix("manifests/").expect("a manifest");
    content.manifests.insert(digest(&manifest), manifest.clone());
    content.manifests.insert(version.to_owned(), manifest);
    let listed = subject.filter(|_| referrers == Referrers::Listed);
    let line = listed.map(|subject| format!("oci-subject: {subject}\r\n"));
    (201, line.unwrap_or_default(), Vec::new())
}

/// A step of the upload of a blob, whose URL has a state that the client has to keep.
fn reply_to_upload(
    content: &mut Content,
    uploads_at: &str,
    upload: &str,
    method: &str,
    body: &[u8],
) -> Reply {
    const STATE: &str = "state=a%3Db";
    if method == "POST" {
        content.uploads.push(Vec::new());
    }
    let (number, query) = upload.split_once('?').unwrap_or_default();
    let number = number.parse().unwrap_or(content.uploads.len() - 1);
    content.uploads[number].extend(body);
    let location = format!("location: {uploads_at}/v2/app/blobs/uploads/{number}?{STATE}\r\n");
    if method != "PUT" {
        return (202, location, Vec::new());
    }
    let blob = content.uploads[number].clone();
    let stated = query.strip_prefix(STATE).and_then(|query| query.strip_prefix("&digest="));
    assert_eq!(stated.expect("the state and a digest").replace("%3A", ":"), digest(&blob));
    content.blobs.insert(digest(&blob), blob);
    (201, location, Vec::new())
}
