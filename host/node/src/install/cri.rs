//! Asks containerd through the Container Runtime Interface whether it is healthy, and which pods it runs
//! (<https://github.com/kubernetes/cri-api>, `runtime.v1`).

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Request};
use prost::Message;
use serde::Deserialize;
use tokio::net::UnixStream;

/// How long containerd may take for an answer. It takes milliseconds, but may have just started.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A verbose status has about 20 KB.
const MAX_ANSWER_BYTES: usize = 16 << 20;

// The messages, with only the fields that are needed.

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {
    #[prost(bool, tag = "1")]
    verbose: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
    #[prost(map = "string, string", tag = "2")]
    info: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<RuntimeCondition>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeCondition {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(bool, tag = "2")]
    status: bool,
    #[prost(string, tag = "4")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListPodSandboxRequest {}

#[derive(Clone, PartialEq, Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandbox {
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodSandboxMetadata>,
    /// 0 if the sandbox runs.
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(string, tag = "7")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

/// What containerd says of its configuration in a verbose status.
#[derive(Deserialize)]
struct Config {
    containerd: ContainerdConfig,
}

#[derive(Deserialize)]
struct ContainerdConfig {
    runtimes: HashMap<String, serde_json::Value>,
}

/// Checks that containerd runs pods and, if a runtime is named, that the configuration it runs with contains it.
///
/// # Errors
/// If containerd does not answer, is not ready, or lacks the runtime.
pub(super) fn check(socket: &Path, runtime: Option<&str>) -> anyhow::Result<()> {
    let answer: StatusResponse = ask(socket, "Status", &StatusRequest { verbose: true })?;
    let conditions = answer.status.map(|status| status.conditions).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.r#type == "RuntimeReady");
    let ready = ready.context("containerd does not say whether it is ready")?;
    ensure!(ready.status, "containerd is not ready: {}", ready.message);
    let config =
        answer.info.get("config").and_then(|text| serde_json::from_str::<Config>(text).ok());
    if let (Some(runtime), Some(config)) = (runtime, config) {
        ensure!(
            config.containerd.runtimes.contains_key(runtime),
            "containerd's running configuration has no runtime `{runtime}`"
        );
    }
    Ok(())
}

/// The running pods of a runtime, as `NAMESPACE/NAME`.
///
/// # Errors
/// If containerd does not answer.
pub(super) fn running_pods(socket: &Path, runtime: &str) -> anyhow::Result<Vec<String>> {
    let answer: ListPodSandboxResponse = ask(socket, "ListPodSandbox", &ListPodSandboxRequest {})?;
    let pods = answer.items.into_iter();
    let pods = pods.filter(|pod| pod.state == 0 && pod.runtime_handler == runtime);
    let metadata = pods.filter_map(|pod| pod.metadata);
    Ok(metadata.map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect())
}

/// Calls a method of the interface.
fn ask<R: Message + Default>(
    socket: &Path,
    method: &str,
    request: &impl Message,
) -> anyhow::Result<R> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = async {
        let called = tokio::time::timeout(ANSWER_TIMEOUT, call(socket, method, request)).await;
        called.with_context(|| format!("no answer in {} s", ANSWER_TIMEOUT.as_secs()))?
    };
    let answer = runtime.block_on(answer);
    let answer = answer.with_context(|| {
        format!(
            "the request to containerd on {} failed; if it listens elsewhere, name its socket with \
                 --containerd-socket",
            socket.display()
        )
    })?;
    R::decode(answer).context("containerd's answer does not match the Container Runtime Interface")
}

/// A unary call of gRPC
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
async fn call(socket: &Path, method: &str, request: &impl Message) -> anyhow::Result<Bytes> {
    let (client, connection) = h2::client::handshake(UnixStream::connect(socket).await?).await?;
    tokio::spawn(connection);
    let head = Request::post(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut sender) = client.ready().await?.send_request(head, false)?;
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(request.encoded_len())?);
    request.encode(&mut body)?;
    sender.send_data(body.freeze(), true)?;
    let (head, mut body) = response.await?.into_parts();
    ensure_success(&head.headers)?;
    let mut answer = receive(&mut body).await?;
    ensure_success(&body.trailers().await?.unwrap_or_default())?;
    ensure!(answer.len() >= 5 && answer[0] == 0, "the answer is not a gRPC message");
    Ok(answer.split_off(5))
}

async fn receive(body: &mut RecvStream) -> anyhow::Result<Bytes> {
    let mut received = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        received.extend_from_slice(&data);
        ensure!(received.len() <= MAX_ANSWER_BYTES, "the answer is too large");
    }
    Ok(received.freeze())
}

fn ensure_success(headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        // Unimplemented: the plugin for Kubernetes is switched off, or failed to start.
        Some("12") => bail!("containerd runs without its plugin `cri`, which Kubernetes needs"),
        Some(status) => {
            bail!("gRPC status {status}: {}", text("grpc-message").unwrap_or("no message"))
        }
    }
}
