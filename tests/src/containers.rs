//! Single containers, run with `ctr` or through containerd's own API.

use std::process::Output;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, StartRequest, container,
};
use containerd_client::tonic::{Request, Status};
use containerd_client::with_namespace;
use prost_types::Any;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::containerd::{Containerd, DEFAULT, KUBERNETES, wait_until};
use crate::leftovers::processes;
use crate::network::Network;
use crate::{slowness, stderr};

impl Containerd {
    /// Runs a container of an image in a separate network, and returns the output of `ctr run`.
    pub fn run(&self, image: &str, id: &str, network: &Network, environment: &[&str]) -> Output {
        let namespace = format!("network:{}", network.path().display());
        let limits = slowness::server_limits().iter();
        let limits: Vec<String> = limits.map(|(name, limit)| format!("{name}={limit}")).collect();
        let variables = environment.iter().copied().chain(limits.iter().map(String::as_str));
        let variables = variables.flat_map(|variable| ["--env", variable]);
        let mut arguments = vec!["run", "--detach", "--runtime", "io.containerd.spotter.v1"];
        arguments.extend(["--with-ns", &namespace]);
        arguments.extend(variables);
        let log = format!("file://{}", self.path(id).display());
        arguments.extend(["--log-uri", &log, image, id]);
        self.ctr(&arguments)
    }

    /// Creates and starts a container whose root file system is an empty folder, so that containerd need not be able
    /// to unpack the image's layers. The error is containerd's.
    pub fn run_unpacked(
        &self,
        image: &str,
        id: &str,
        network: &Network,
        arguments: &[&str],
    ) -> Result<(), String> {
        let root = self.path(&format!("{id}.root"));
        std::fs::create_dir_all(&root).expect("a folder");
        let usual = self.ctr(&["oci", "spec"]);
        let mut spec: Value = serde_json::from_slice(&usual.stdout).expect("a specification");
        spec["process"]["args"] = json!(arguments);
        spec["root"]["path"] = json!(root);
        spec["linux"]["cgroupsPath"] = json!(format!("/default/{id}"));
        for namespace in spec["linux"]["namespaces"].as_array_mut().expect("namespaces") {
            if namespace["type"] == "network" {
                namespace["path"] = json!(network.path());
            }
        }
        let runtime = Runtime::new().expect("a runtime");
        runtime
            .block_on(self.create_and_start(image, id, &spec))
            .map_err(|status| status.message().to_owned())
    }

    async fn create_and_start(&self, image: &str, id: &str, spec: &Value) -> Result<(), Status> {
        let channel = containerd_client::connect(self.socket()).await.expect("containerd answers");
        let container = Container {
            id: id.to_owned(),
            image: image.to_owned(),
            runtime: Some(container::Runtime {
                name: "io.containerd.spotter.v1".to_owned(),
                options: None,
            }),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
                value: spec.to_string().into_bytes(),
            }),
            ..Container::default()
        };
        let request = CreateContainerRequest { container: Some(container) };
        let request = with_namespace!(request, DEFAULT);
        ContainersClient::new(channel.clone()).create(request).await?;
        let mut tasks = TasksClient::new(channel);
        let log = format!("file://{}", self.path(id).display());
        let request = CreateTaskRequest {
            container_id: id.to_owned(),
            stdout: log.clone(),
            stderr: log,
            ..CreateTaskRequest::default()
        };
        tasks.create(with_namespace!(request, DEFAULT)).await?;
        let request = StartRequest { container_id: id.to_owned(), ..StartRequest::default() };
        tasks.start(with_namespace!(request, DEFAULT)).await?;
        Ok(())
    }

    /// The process of a container in Kubernetes' namespace.
    pub fn pid_of_pod(&self, container: &str) -> Option<u32> {
        let listed = self.ctr_in(KUBERNETES, &["tasks", "ls"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let line = text.lines().find(|line| line.starts_with(container))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// The output of a container that [`run`](Self::run) started.
    pub fn container_log(&self, id: &str) -> String {
        std::fs::read_to_string(self.path(id)).unwrap_or_default()
    }

    /// The process of a container; `None` if it has ended.
    pub fn pid(&self, id: &str) -> Option<u32> {
        let listed = self.ctr(&["tasks", "ls"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut fields = text.lines().find(|line| line.starts_with(id))?.split_whitespace().skip(1);
        let pid = fields.next()?.parse().ok()?;
        (fields.next() == Some("RUNNING")).then_some(pid)
    }

    /// The process of the shim that serves a container.
    pub fn shim(&self, id: &str) -> Option<u32> {
        let socket = self.socket().display().to_string();
        processes()
            .into_iter()
            .find(|(_, line)| {
                line.contains("containerd-shim-spotter-v1")
                    && line.contains(&socket)
                    && line.split(' ').any(|word| word == id)
            })
            .map(|(pid, _)| pid)
    }

    /// Stops a container with a signal, removes it, and returns its exit status.
    pub fn stop(&self, id: &str, signal: &str) -> i32 {
        self.ctr(&["tasks", "kill", "--signal", signal, id]);
        wait_until("the container ends", || self.pid(id).is_none());
        let deleted = self.ctr(&["tasks", "delete", id]);
        self.ctr(&["containers", "delete", id]);
        let said = stderr(&deleted);
        let status = said.split("exit code ").nth(1).map(|rest| rest.trim_end_matches(['"', '\n']));
        status.map_or(0, |status| status.parse().expect("an exit code"))
    }
}
