//! Labels a node through the Kubernetes API, as the service account of a pod.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use reqwest::Certificate;
use serde_json::{Value, json};

use spotter_progress::print;
use spotter_up::block_on;

/// The label by which the RuntimeClass selects nodes.
const LABEL_KEY: &str = "spotter-runtime";
const LABEL_VALUE: &str = "installed";

/// Which node to label, and as whom.
#[derive(Args)]
pub(super) struct LabelArguments {
    /// In a pod: label this node spotter-runtime=installed after installing, and remove the label before uninstalling
    #[arg(long, value_name = "NODE")]
    label: Option<String>,
    /// The folder with the pod's token and the API server's CA certificate
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount",
        requires = "label"
    )]
    service_account: PathBuf,
    /// The API server's address, which Kubernetes sets in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", value_name = "HOST", hide = true)]
    api_host: Option<String>,
    #[arg(
        long,
        env = "KUBERNETES_SERVICE_PORT",
        value_name = "PORT",
        hide = true,
        default_value_t = 443
    )]
    api_port: u16,
}

/// A node's label, and what is needed to change it.
pub(super) struct NodeLabel {
    url: String,
    node: String,
    token: String,
    authority: Certificate,
}

impl LabelArguments {
    /// Reads the service account; `None` if no node is to be labelled.
    ///
    /// # Errors
    /// If this is not a pod, or its service account has no token.
    pub(super) fn read(&self) -> anyhow::Result<Option<NodeLabel>> {
        let Some(node) = &self.label else { return Ok(None) };
        let host = self.api_host.as_deref().context(
            "--label works only in a pod, where Kubernetes sets KUBERNETES_SERVICE_HOST; \
             elsewhere, use `kubectl label node`",
        )?;
        let read = |name: &str| {
            let path = self.service_account.join(name);
            let text = std::fs::read_to_string(&path);
            text.with_context(|| format!("cannot read the service account's {}", path.display()))
        };
        let host = match host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => host.to_owned(),
        };
        Ok(Some(NodeLabel {
            url: format!("https://{host}:{}/api/v1/nodes/{node}", self.api_port),
            node: node.clone(),
            token: read("token")?.trim().to_owned(),
            authority: Certificate::from_pem(read("ca.crt")?.as_bytes())
                .context("the service account's ca.crt is not a certificate")?,
        }))
    }
}

impl NodeLabel {
    /// Sets the label.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses.
    pub(super) fn set(&self) -> anyhow::Result<()> {
        self.patch(json!(LABEL_VALUE))?;
        print(&format!("labelled the node {} {LABEL_KEY}={LABEL_VALUE}", self.node));
        Ok(())
    }

    /// Removes the label, if it is there.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        self.patch(Value::Null)?;
        print(&format!("removed the label {LABEL_KEY} of the node {}", self.node));
        Ok(())
    }

    /// A JSON merge patch, in which null removes (RFC 7386).
    fn patch(&self, label: Value) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().no_proxy();
        let client = client.tls_certs_only([self.authority.clone()]).build();
        let client = client.context("cannot start the HTTP client")?;
        let body = json!({"metadata": {"labels": {LABEL_KEY: label}}});
        let request = client
            .patch(&self.url)
            .bearer_auth(&self.token)
            .header("content-type", "application/merge-patch+json")
            .body(body.to_string());
        block_on(async {
            let reply = request.send().await;
            let reply = reply.with_context(|| format!("no answer to PATCH {}", self.url))?;
            let status = reply.status();
            let said = reply.text().await.unwrap_or_default();
            ensure!(status.is_success(), "PATCH {} replied {status}: {said}", self.url);
            Ok(())
        })
    }
}
