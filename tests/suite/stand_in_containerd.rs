//! A stand-in for a node's containerd: it answers the Container Runtime Interface, and runs with the configuration that
//! it last started with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;
use tokio::net::UnixListener;

use crate::node_install::StandInNode;

// The fields that the installer reads, with their numbers.

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Condition {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(bool, tag = "2")]
    status: bool,
    #[prost(string, tag = "4")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct Conditions {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, optional, tag = "1")]
    status: Option<Conditions>,
    #[prost(message, repeated, tag = "2")]
    info: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct Pod {
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(string, tag = "7")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, Message)]
struct Pods {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Pod>,
}

/// Restarts it with the current configuration. If a certain file exists, it kills the installer instead.
const RESTART: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
[ ! -e kills-installer ] || { kill -9 $PPID; exit; }
echo restarted >>restarts
cp etc/containerd/config.toml runs-with
"#;

pub(crate) struct StandInContainerd {
    pub(crate) node: StandInNode,
    restart: String,
}

impl StandInContainerd {
    /// Starts it on a node with these files.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let node = StandInNode::with(files);
        let script = node.path("restart");
        fs::write(&script, RESTART).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::create_dir_all(node.path("run/containerd")).expect("a folder");
        serve(node.path(""));
        Self { restart: script.display().to_string(), node }
    }

    /// The installer's arguments that restart it.
    pub(crate) fn arguments(&self) -> [&str; 4] {
        ["--restart", &self.restart, "--timeout", "1s"]
    }

    pub(crate) fn restarts(&self) -> usize {
        fs::read_to_string(self.node.path("restarts")).unwrap_or_default().lines().count()
    }

    /// The configuration that it runs with.
    pub(crate) fn runs_with(&self) -> String {
        fs::read_to_string(self.node.path("runs-with")).unwrap_or_default()
    }
}

fn serve(root: PathBuf) {
    let listener =
        std::os::unix::net::UnixListener::bind(root.join("run/containerd/containerd.sock"));
    let listener = listener.expect("a socket");
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = UnixListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                // The client hangs up when it has its answer.
                let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let answer = if request.uri().path().ends_with("/Status") {
                        framed(&status(&root))
                    } else {
                        framed(&pods(&root))
                    };
                    let head = Response::builder().header("content-type", "application/grpc");
                    let head = head.body(()).expect("a response");
                    let mut body = respond.send_response(head, false).expect("a stream");
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    let _ = body.send_data(answer, false);
                    let _ = body.send_trailers(trailers);
                }
            }
        });
    });
}

fn status(root: &Path) -> Status {
    let runs_with = fs::read_to_string(root.join("runs-with")).unwrap_or_default();
    let has_spotter = runs_with.contains("runtimes.spotter]");
    let dislikes = has_spotter && root.join("dislikes-spotter").exists();
    let condition = Condition {
        r#type: "RuntimeReady".into(),
        status: !dislikes,
        message: if dislikes { "it dislikes this".into() } else { String::new() },
    };
    let runtimes = if has_spotter { r#"{"runc":{},"spotter":{}}"# } else { r#"{"runc":{}}"# };
    let config = format!(r#"{{"containerd":{{"runtimes":{runtimes}}}}}"#);
    Status {
        status: Some(Conditions { conditions: vec![condition] }),
        info: vec![Entry { key: "config".into(), value: config }],
    }
}

fn pods(root: &Path) -> Pods {
    let pod = |handler: &str, state: i32| Pod {
        metadata: Some(Metadata { name: "detect".into(), namespace: "spotter".into() }),
        state,
        runtime_handler: handler.into(),
    };
    let mut items = vec![pod("runc", 0), pod("spotter", 1)];
    if root.join("pods").exists() {
        items.push(pod("spotter", 0));
    }
    Pods { items }
}

/// A message of gRPC, in its frame.
fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).expect("a length"));
    message.encode(&mut frame).expect("room");
    frame.freeze()
}
