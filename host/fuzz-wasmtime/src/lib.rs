//! A server for a small application, and in-memory connections to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spotter_app::{App, LoadOptions};
use spotter_config::Limits;
use spotter_server::Server;
use spotter_server::client::connection_info::{ConnectionInfo, Scheme};
use spotter_server::client::proxies::{ForwardedHeaders, Proxies};
use spotter_server::connection::serve_http;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const MANIFEST: &str = r#"
spin_manifest_version = 2
[application]
name = "fuzz"
[[trigger.http]]
route = "/static"
static_response = { body = "static" }
[[trigger.http]]
route = "/read/:id/..."
component = "read"
executor = { type = "wagi" }
[component.read]
source = "read.wasm"
[component.read.tool.spotter]
cross_origin = "*"
"#;

/// A CGI program that reads the whole body.
const PROGRAM: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "content-type: text/plain\n\nread\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 4096))
        (i32.store (i32.const 4) (i32.const 4096))
        (loop $more
            (i32.store (i32.const 8) (i32.const 0))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br_if $more (i32.load (i32.const 8))))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 31))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// How long a connection may last. The client sends everything at once and closes its side, so
/// nothing but the second for a client that has closed its side is waited for.
const LONGEST: Duration = Duration::from_secs(5);

/// The folder that this process uses as the user's cache.
pub fn use_own_cache() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    // SAFETY: the fuzzer calls this before there are other threads.
    unsafe { std::env::set_var("XDG_CACHE_HOME", folder.path()) };
    folder
}

/// A server, and the thread that runs it.
pub struct Harness {
    server: Arc<Server>,
    runtime: Runtime,
    proxies: Arc<Proxies>,
    _folders: [TempDir; 2],
}

impl Harness {
    pub fn start() -> Self {
        let cache = use_own_cache();
        let folder = tempfile::tempdir().expect("a folder");
        let program = wat::parse_str(PROGRAM).expect("a module");
        std::fs::write(folder.path().join("read.wasm"), program).expect("a file");
        let app = App::parse(MANIFEST, folder.path(), &LoadOptions::default()).expect("an app");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let limits = Limits { instances: 2, max_instances: 8, ..Limits::default() };
        let server = runtime.block_on(async { Server::new(app, limits, None, Vec::new()) });
        let trusted = vec!["127.0.0.1".parse().expect("an address")];
        let proxies = Arc::new(Proxies::new(trusted, ForwardedHeaders::default()));
        Self { server: server.expect("a server"), runtime, proxies, _folders: [cache, folder] }
    }

    /// Everything that the server sends to a client until it closes the connection. `window` is how many bytes are on
    /// their way at once.
    pub fn exchange(&self, sent: &[u8], window: usize) -> Vec<u8> {
        let talk = async {
            let (near, far) = tokio::io::duplex(window);
            let address = SocketAddr::from(([127, 0, 0, 1], 1)).into();
            let connection =
                ConnectionInfo { client: address, local: address, scheme: Scheme::Http };
            let (_stop, stopping) = watch::channel(false);
            let (server, proxies) = (Arc::clone(&self.server), Arc::clone(&self.proxies));
            let serving = tokio::spawn(serve_http(server, far, connection, proxies, stopping));
            let (mut reader, mut writer) = tokio::io::split(near);
            let write = async {
                // The server may hang up before it has read everything.
                if writer.write_all(sent).await.is_ok() {
                    let _ = writer.shutdown().await;
                }
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(write, reader.read_to_end(&mut received));
            read.expect("a stream in memory does not fail");
            serving.await.expect("the connection's task does not panic");
            received
        };
        let talk = async { tokio::time::timeout(LONGEST, talk).await };
        self.runtime.block_on(talk).expect("the server closes every connection")
    }
}
