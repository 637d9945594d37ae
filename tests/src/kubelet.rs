//! Drives containerd as a kubelet does: pods, and containers in them, through the Container Runtime Interface
//! (<https://github.com/kubernetes/cri-api>).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Request, Status};
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    Capability, ContainerConfig, ContainerMetadata, ContainerState, ContainerStatsRequest,
    ContainerStatus, ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    KeyValue, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PodSandboxStatusRequest, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use tokio::runtime::Runtime;

use crate::client;
use crate::containerd::Containerd;
use crate::slowness;

/// How soon the system kills a container's processes for lack of memory: as for a burstable pod.
pub const OOM_SCORE_ADJ: i64 = 500;

/// A client of containerd's CRI.
pub struct Kubelet {
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
    logs: PathBuf,
}

/// A running pod.
pub struct Pod {
    pub id: String,
    pub address: String,
    config: PodSandboxConfig,
}

/// The configuration of a container.
#[derive(Clone, Default)]
pub struct Wanted<'a> {
    /// Unique among the containers of its pod.
    pub name: &'a str,
    pub image: &'a str,
    pub environment: &'a [(&'a str, &'a str)],
    /// In bytes; 0 for no limit.
    pub memory: i64,
    /// CPU time in each 100 ms, in microseconds; 0 for no limit.
    pub cpu_quota: i64,
    /// 0 for root. Any other user is restricted as by the restricted Pod Security Standard.
    pub user: i64,
    pub processes: Processes,
    /// Folders or files of the node, and where the container has them, read-only.
    pub volumes: &'a [(&'a Path, &'a str)],
}

/// Which processes a container sees.
#[derive(Clone, Copy, Default)]
pub enum Processes {
    /// Its own, the default in Kubernetes.
    #[default]
    Own,
    /// All processes of its pod, with `shareProcessNamespace`.
    Pods,
}

/// The parent of the pods' cgroups. If it is a slice, systemd makes them.
fn cgroup_parent() -> String {
    std::env::var("SPOTTER_TEST_CGROUP_PARENT").unwrap_or_else(|_| "/spotter-test".to_owned())
}

impl Kubelet {
    pub fn of(containerd: &Containerd) -> Self {
        Self::connect(&containerd.socket(), containerd.path("logs"))
    }

    /// A client of the containerd that listens on `socket`, and writes pods' logs to a folder.
    pub fn connect(socket: &Path, logs: PathBuf) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let channel = runtime.block_on(containerd_client::connect(socket));
        let client = RuntimeServiceClient::new(channel.expect("containerd answers"));
        Self { runtime, client, logs }
    }

    fn ask<T>(
        &self,
        what: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<T, Status>,
    ) -> Result<T, String> {
        let answer = self.runtime.block_on(what(self.client.clone()));
        answer.map_err(|status| status.message().to_owned())
    }

    /// Runs a pod with the runtime `spotter`, without containers yet.
    pub fn run_pod(&self, name: &str) -> Pod {
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.logs.join(name).display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: cgroup_parent(),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        };
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: "spotter".into(),
        };
        let run = self.ask(async |mut client| client.run_pod_sandbox(request).await);
        let id = run.expect("a pod").into_inner().pod_sandbox_id;
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
        let status = self.ask(async |mut client| client.pod_sandbox_status(request).await);
        let network =
            status.expect("a status").into_inner().status.and_then(|status| status.network);
        Pod { id, address: network.expect("a network").ip, config }
    }

    /// Creates a container in a pod. The error is what `kubectl describe` would show.
    pub fn create(&self, pod: &Pod, wanted: &Wanted<'_>) -> Result<String, String> {
        let key_value =
            |(key, value): &(&str, &str)| KeyValue { key: (*key).into(), value: (*value).into() };
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: wanted.name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: wanted.image.to_owned(), ..ImageSpec::default() }),
            envs: wanted
                .environment
                .iter()
                .chain(slowness::server_limits())
                .map(key_value)
                .collect(),
            log_path: format!("{}.log", wanted.name),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    memory_limit_in_bytes: wanted.memory,
                    cpu_period: if wanted.cpu_quota > 0 { 100_000 } else { 0 },
                    cpu_quota: wanted.cpu_quota,
                    oom_score_adj: OOM_SCORE_ADJ,
                    ..LinuxContainerResources::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    run_as_user: Some(k8s_cri::v1::Int64Value { value: wanted.user }),
                    namespace_options: Some(NamespaceOption {
                        pid: match wanted.processes {
                            Processes::Own => NamespaceMode::Container as i32,
                            Processes::Pods => NamespaceMode::Pod as i32,
                        },
                        ..NamespaceOption::default()
                    }),
                    readonly_rootfs: wanted.user != 0,
                    no_new_privs: wanted.user != 0,
                    capabilities: (wanted.user != 0).then(|| Capability {
                        drop_capabilities: vec!["ALL".into()],
                        ..Capability::default()
                    }),
                    ..LinuxContainerSecurityContext::default()
                }),
            }),
            mounts: wanted.volumes.iter().map(read_only).collect(),
            labels: HashMap::new(),
            ..ContainerConfig::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let created = self.ask(async |mut client| client.create_container(request).await)?;
        Ok(created.into_inner().container_id)
    }

    /// Starts a container.
    pub fn start(&self, container: &str) -> Result<(), String> {
        let request = StartContainerRequest { container_id: container.to_owned() };
        self.ask(async |mut client| client.start_container(request).await).map(drop)
    }

    /// Creates and starts a container.
    pub fn run(&self, pod: &Pod, wanted: &Wanted<'_>) -> String {
        let container = self.create(pod, wanted).expect("a container");
        self.start(&container).expect("a start");
        container
    }

    /// Runs a pod with one function, and waits until it is ready. Returns the pod and the container.
    pub fn serve(&self, name: &str, wanted: &Wanted<'_>) -> (Pod, String) {
        let pod = self.run_pod(name);
        let container = self.run(&pod, wanted);
        self.wait_until_ready(&pod);
        (pod, container)
    }

    /// Waits until a pod's function is ready.
    pub fn wait_until_ready(&self, pod: &Pod) {
        let url = pod.admin_url("/readyz");
        let began = Instant::now();
        while !client::is_ready(&url) {
            // As the startup probe, which covers the compiler.
            assert!(began.elapsed() < Duration::from_secs(300), "{}", self.log(pod));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops a container. If it has not ended after this many seconds, it is killed.
    pub fn stop(&self, container: &str, grace: i64) {
        let request = StopContainerRequest { container_id: container.to_owned(), timeout: grace };
        self.ask(async |mut client| client.stop_container(request).await).expect("a stop");
    }

    /// The exit status of a container that has ended.
    pub fn exit_status(&self, container: &str) -> i32 {
        self.status(container).exit_code
    }

    /// The exit status and the output of a command in a container, as a probe of the kubelet gets them. The error is what
    /// `kubectl exec` would show.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<(i32, String), String> {
        self.exec_within(5, container, command)
    }

    /// The same, killed after this many seconds.
    pub fn exec_within(
        &self,
        seconds: i64,
        container: &str,
        command: &[&str],
    ) -> Result<(i32, String), String> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|argument| (*argument).to_owned()).collect(),
            timeout: seconds,
        };
        let reply = self.ask(async |mut client| client.exec_sync(request).await)?.into_inner();
        let output = [reply.stdout, reply.stderr].concat();
        Ok((reply.exit_code, String::from_utf8_lossy(&output).into_owned()))
    }

    /// Why a container has ended, as `kubectl describe` shows it.
    pub fn reason(&self, container: &str) -> String {
        self.status(container).reason
    }

    /// Whether a container has started and not ended.
    pub fn is_running(&self, container: &str) -> bool {
        self.status(container).state() == ContainerState::ContainerRunning
    }

    fn status(&self, container: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
        let status = self.ask(async |mut client| client.container_status(request).await);
        status.expect("a status").into_inner().status.expect("a status")
    }

    /// CPU time in nanoseconds and memory in bytes, as `kubectl top` reads them.
    pub fn stats(&self, container: &str) -> (u64, u64) {
        let request = ContainerStatsRequest { container_id: container.to_owned() };
        let stats =
            self.ask(async |mut client| client.container_stats(Request::new(request)).await);
        let stats = stats.expect("stats").into_inner().stats.expect("stats");
        let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds);
        let memory = stats.memory.and_then(|memory| memory.working_set_bytes);
        (cpu.map_or(0, |cpu| cpu.value), memory.map_or(0, |memory| memory.value))
    }

    /// The output of `kubectl logs`.
    pub fn log(&self, pod: &Pod) -> String {
        self.log_of(pod, "detect")
    }

    /// The output of `kubectl logs -c`.
    pub fn log_of(&self, pod: &Pod, name: &str) -> String {
        let folder = PathBuf::from(&pod.config.log_directory);
        std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Removes a container that has ended.
    pub fn remove(&self, container: &str) {
        let request = RemoveContainerRequest { container_id: container.to_owned() };
        self.ask(async |mut client| client.remove_container(request).await).expect("a removal");
    }

    /// Stops and removes a pod with all its containers.
    pub fn remove_pod(&self, pod: &Pod) {
        let request = StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.ask(async |mut client| client.stop_pod_sandbox(request).await).expect("a stop");
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
        self.ask(async |mut client| client.remove_pod_sandbox(request).await).expect("a removal");
    }
}

fn read_only((host, container): &(&Path, &str)) -> Mount {
    Mount {
        host_path: host.display().to_string(),
        container_path: (*container).to_owned(),
        readonly: true,
        ..Mount::default()
    }
}

impl Pod {
    /// The URL of a path on the port that pods listen on.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of a path on the admin listener.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}:3001{path}", self.address)
    }
}
