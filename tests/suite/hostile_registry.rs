//! Registries that lie, and images that would fill the disk or lead out of their folder.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use spotter_tests::home::{assert_ran, run_in};
use spotter_tests::oci::{self, SPIN_APPLICATION, SPIN_WASM, WASM, digest};
use spotter_tests::{guests, root, stderr};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DATA: &str = "application/vnd.wasm.content.layer.v1+data";

/// What a registry serves below `/v2/app/`: path, media type, content.
type Files = Vec<(String, &'static str, Vec<u8>)>;

/// A registry that serves these files. A blob that it does not know is endless, and so is a manifest whose content is
/// empty.
struct StandIn {
    address: String,
    sent: Arc<AtomicU64>,
}

impl StandIn {
    fn start(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        let (files, sent) = (Arc::new(files), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (files, counter) = (Arc::clone(&files), Arc::clone(&counter));
                // The client may hang up.
                std::thread::spawn(move || drop(answer(&files, stream, &counter)));
            }
        });
        Self { address, sent }
    }

    /// `spotter pull` of its image `app:1`, and how many bytes of endless blobs that took.
    fn pull(&self, home: &Path) -> (std::process::Output, u64) {
        let output = run_in(home, &["pull", &format!("{}/app:1", self.address)]);
        (output, self.sent.load(Ordering::Relaxed))
    }
}

fn answer(files: &Files, mut stream: TcpStream, sent: &AtomicU64) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = first.split(' ').nth(1).unwrap_or_default();
    let known = files.iter().find(|(name, ..)| path == format!("/v2/app/{name}"));
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
    match known {
        Some((name, media_type, content))
            if name.starts_with("manifests/") && content.is_empty() =>
        {
            write!(stream, "{head}content-type: {media_type}\r\n\r\n{{")?;
            endless(&mut stream, sent)
        }
        Some((_, media_type, content)) => {
            let length = content.len();
            write!(stream, "{head}content-type: {media_type}\r\ncontent-length: {length}\r\n\r\n")?;
            stream.write_all(content)
        }
        None if path.contains("/blobs/") => {
            write!(stream, "{head}\r\n")?;
            endless(&mut stream, sent)
        }
        None => write!(stream, "{head}content-length: 0\r\n\r\n"),
    }
}

/// Writes until the reader stops, or has read so much that it clearly will not stop.
fn endless(stream: &mut TcpStream, sent: &AtomicU64) -> std::io::Result<()> {
    let piece = vec![b' '; 64 << 10];
    while sent.load(Ordering::Relaxed) < 1 << 30 {
        stream.write_all(&piece)?;
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn descriptor(media_type: &str, digest: &str, size: i64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn manifest(layers: &[Value]) -> Vec<u8> {
    let config = descriptor("application/vnd.wasm.config.v0+json", &digest(b"{}"), 2);
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
        .to_string()
        .into_bytes()
}

/// An image of these layers.
fn image(layers: &[oci::Layer]) -> Files {
    let described = layers
        .iter()
        .map(|(kind, bytes)| descriptor(kind, &digest(bytes), bytes.len() as i64))
        .collect::<Vec<_>>();
    let blobs = layers
        .iter()
        .map(|(kind, bytes)| (format!("blobs/{}", digest(bytes)), *kind, bytes.clone()));
    let mut files: Files = blobs.collect();
    files.push(("manifests/1".to_owned(), MANIFEST, manifest(&described)));
    files
}

fn component() -> Vec<u8> {
    guests();
    std::fs::read(root().join("target/spotter/hello.wasm")).expect("a component")
}

/// What `spotter pull` says about an image that describes one endless layer in this way, and how many bytes were sent.
fn lie(layer: Value) -> (String, u64) {
    let home = tempfile::tempdir().expect("a folder");
    let files = vec![("manifests/1".to_owned(), MANIFEST, manifest(&[layer]))];
    let (output, sent) = StandIn::start(files).pull(home.path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    (stderr(&output), sent)
}

#[test]
fn a_registry_that_lies_about_sizes_is_refused_before_it_has_sent_much() {
    let endless = digest(b"");
    for size in [-9_000_000_000_000, -1, i64::MIN] {
        let (said, sent) = lie(descriptor(WASM, &endless, size));
        assert!(said.contains("impossible size"), "{size}: {said}");
        assert_eq!(sent, 0);
    }
    let (said, sent) = lie(descriptor(WASM, &endless, i64::MAX));
    assert!(said.contains("the maximum is") && sent == 0, "{said}");
    let (said, sent) = lie(descriptor(WASM, &endless, 100));
    assert!(said.contains("longer than the 100 bytes"), "{said}");
    // What the sockets' buffers hold, at most.
    assert!(sent < 32 << 20, "{sent}");
}

#[test]
fn a_manifest_or_an_index_without_an_end_is_refused() {
    let index = |digest: &str| {
        let entry = descriptor(MANIFEST, digest, 100);
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string()
    };
    let endless = digest(b"an entry");
    for files in [
        vec![("manifests/1".to_owned(), MANIFEST, Vec::new())],
        vec![("manifests/1".to_owned(), INDEX, Vec::new())],
        vec![
            ("manifests/1".to_owned(), INDEX, index(&endless).into_bytes()),
            (format!("manifests/{endless}"), MANIFEST, Vec::new()),
        ],
    ] {
        let home = tempfile::tempdir().expect("a folder");
        let (output, sent) = StandIn::start(files).pull(home.path());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("has more than 4194304 bytes"), "{said}");
        // What the sockets' buffers hold, at most.
        assert!(sent < 32 << 20, "{sent}");
    }
}

/// A locked application with one component, which has these files.
fn locked(component: &[u8], files: &[Value]) -> Value {
    json!({
        "spin_lock_version": 1,
        "metadata": {"name": "many"},
        "triggers": [{"id": "web", "trigger_type": "http",
            "trigger_config": {"component": "web", "route": "/..."}}],
        "components": [{
            "id": "web",
            "source": {"content_type": "application/wasm", "digest": digest(component)},
            "files": files,
        }],
    })
}

#[test]
fn a_layer_that_many_files_name_is_on_the_disk_once() {
    const FILES: usize = 500;
    let large = vec![1; 1 << 20];
    let files: Vec<Value> = (0..FILES)
        .map(|number| json!({"path": format!("/{number}"), "digest": digest(&large)}))
        .collect();
    let component = component();
    let locked = locked(&component, &files);
    let layers = [
        (SPIN_WASM, component),
        (DATA, large),
        (SPIN_APPLICATION, locked.to_string().into_bytes()),
    ];
    let home = tempfile::tempdir().expect("a folder");
    let (output, _) = StandIn::start(image(&layers)).pull(home.path());
    assert_ran(&output);
    let (mut seen, mut bytes, mut files) = (BTreeSet::new(), 0, 0);
    let mut folders = vec![home.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("metadata");
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            if seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
        }
    }
    assert!(files > FILES, "{files}");
    assert!(bytes < 64 << 20, "{bytes} bytes");
}

#[test]
fn an_image_that_would_use_up_the_disks_inodes_is_refused_before_a_file_is_written() {
    let component = component();
    let pull = |files: Vec<Value>| {
        let locked = locked(&component, &files);
        let layers =
            [(SPIN_WASM, component.clone()), (SPIN_APPLICATION, locked.to_string().into_bytes())];
        let home = tempfile::tempdir().expect("a folder");
        let (output, _) = StandIn::start(image(&layers)).pull(home.path());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let applications = home.path().join("cache/spotter/applications");
        assert_eq!(std::fs::read_dir(applications).expect("a folder").count(), 0);
        stderr(&output)
    };
    let file = |path: String| json!({"path": path, "inline": ""});
    let many = (0..100_001).map(|number| file(format!("/{number}"))).collect();
    let said = pull(many);
    assert!(said.contains("100001 files and folders; the maximum is 100000"), "{said}");
    let said = pull(vec![file("/a".repeat(65))]);
    assert!(said.contains("65 parts; the maximum is 64"), "{said}");
}

#[test]
fn an_index_with_images_for_webassembly_only_is_pulled() {
    let mut files = image(&[(WASM, component())]);
    let (_, _, manifest) = files.pop().expect("a manifest");
    let platform = |architecture: &str, os: &str, digest: &str| {
        let mut entry = descriptor(MANIFEST, digest, manifest.len() as i64);
        entry["platform"] = json!({"architecture": architecture, "os": os});
        entry
    };
    let other = digest(b"another");
    let native = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entries = [
        platform(native, "windows", &other),
        platform("wasm", "js", &other),
        platform("wasm", "wasip1", &digest(&manifest)),
    ];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    files.push((format!("manifests/{}", digest(&manifest)), MANIFEST, manifest));
    files.push(("manifests/1".to_owned(), INDEX, index.into_bytes()));
    let home = tempfile::tempdir().expect("a folder");
    let (output, _) = StandIn::start(files).pull(home.path());
    assert_ran(&output);
}

#[test]
fn a_damaged_layer_is_refused_and_nothing_is_kept() {
    let mut files = image(&[(WASM, component())]);
    *files[0].2.last_mut().expect("a byte") ^= 1;
    let home = tempfile::tempdir().expect("a folder");
    let (output, _) = StandIn::start(files).pull(home.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).to_lowercase().contains("digest"), "{}", stderr(&output));
    let cache = home.path().join("cache/spotter/applications");
    let kept: Vec<_> = std::fs::read_dir(cache).expect("a folder").collect();
    assert!(kept.is_empty(), "{kept:?}");
}
