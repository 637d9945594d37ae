//! The containerd shim: a container that holds an application runs `spotter up` in the pod's namespaces.
//!
//! containerd calls the [`service`], which [`plan`]s what a container runs: a function from its image's layers or
//! root file system, [`compile`]d once per node, or, for the sandbox and sidecars, a Linux program. A process forked
//! early ([`container`]) then creates the container and runs it ([`executor`]).

pub mod cgroups;
mod compile;
pub mod container;
mod container_files;
mod container_health;
pub mod container_log;
pub mod events;
mod exec;
pub mod executor;
pub mod image;
pub mod oom;
mod panic;
mod pending_code;
pub mod plan;
pub mod pod_cgroup;
pub mod process_state;
pub mod request;
mod seal;
pub mod service;
pub mod stats;
mod stdio;
pub mod task;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use containerd_shim::api::DeleteResponse;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use containerd_shim::publisher::RemotePublisher;
use containerd_shim::util::{timestamp, write_address};
use containerd_shim::{Config, Error, ExitSignal, Flags, Shim, StartOpts, run, spawn};
use events::Events;
use oci_spec::runtime::Spec;
use pod_cgroup::PodCgroup;
use service::{Service, Tasks};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use task::Task;
use zygote::Zygote;

/// The runtime's full name.
const RUNTIME_TYPE: &str = "io.containerd.spotter.v1";

/// The folder of containers' states, with a subfolder for each containerd namespace.
const STATE_ROOT: &str = "/run/containerd/spotter";

/// The annotation by which the containers of a pod share a shim.
const SANDBOX_ID_ANNOTATION: &str = "io.kubernetes.cri.sandbox-id";

/// Runs the action that containerd passes on the command line.
#[allow(clippy::print_stdout, reason = "the output of the command")]
pub fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let flags = containerd_shim::parse(&arguments).unwrap_or_default();
    if flags.version {
        println!("containerd-shim-spotter-v1 {}", env!("CARGO_PKG_VERSION"));
        return;
    }
    if flags.info {
        let mut version = RuntimeVersion::new();
        version.version = env!("CARGO_PKG_VERSION").to_owned();
        let mut info = RuntimeInfo::new();
        info.name = RUNTIME_TYPE.to_owned();
        info.version = Some(version).into();
        // The reader may have closed the pipe.
        let _ = info.write_to_writer(&mut std::io::stdout());
        return;
    }
    if flags.action.is_empty() {
        // No action means that this process serves a pod.
        if let Err(error) = seal::execute_read_only() {
            spotter_progress::print_message(&format!("error: {error:#}"));
            return;
        }
        // Containers are forked from the zygote, and run models too.
        spotter_nn::set_built_in(Box::new(spotter_tract::Tract));
        // The zygote must fork while there is one thread.
        Zygote::init();
        // The process that started this one waits until its standard output is closed.
        Zygote::global().run(|()| rustix::stdio::dup2_stdout(std::io::stderr()).is_ok(), ());
        // Checking a component takes twice its size in memory, and the shim lives as long as its pod.
        spotter_nn::heap::return_large_blocks();
    }
    // `start` waits for no process. If a child ended while containerd-shim 0.11 removes its signal handlers, the
    // handler of SIGCHLD would write to a closed socket, and that of the SIGPIPE it gets for this would do so again,
    // for ever.
    let config = Config { no_reaper: flags.action == "start", ..Config::default() };
    run::<PodShim>(RUNTIME_TYPE, Some(config));
}

/// The shim of a pod.
struct PodShim {
    flags: Flags,
    exit: Arc<ExitSignal>,
}

impl Shim for PodShim {
    type T = Service;

    fn new(_: &str, flags: &Flags, _: &mut Config) -> Self {
        let flags = Flags {
            namespace: flags.namespace.clone(),
            id: flags.id.clone(),
            address: flags.address.clone(),
            bundle: flags.bundle.clone(),
            ..Flags::default()
        };
        Self { flags, exit: Arc::default() }
    }

    fn start_shim(&mut self, options: StartOpts) -> containerd_shim::Result<String> {
        let spec = Spec::load(self.bundle().join("config.json"))
            .map_err(|error| Error::InvalidArgument(format!("config.json: {error}")))?;
        let annotations = spec.annotations().clone().unwrap_or_default();
        let group = annotations.get(SANDBOX_ID_ANNOTATION).unwrap_or(&options.id).clone();
        let (_, address) = spawn(options, &group, Vec::new())?;
        write_address(&address)?;
        Ok(address)
    }

    /// Cleans up after a shim that was killed.
    fn delete_shim(&mut self) -> containerd_shim::Result<DeleteResponse> {
        self.stop_compiler();
        pending_code::remove(&request::unique_name(&self.flags.namespace, &self.flags.id));
        let state = PathBuf::from(STATE_ROOT).join(&self.flags.namespace).join(&self.flags.id);
        container::remove(&state)
            .map_err(|error| Error::Other(format!("{}: {error:#}", state.display())))?;
        self.remove_dead_socket();
        Ok(DeleteResponse {
            exit_status: process_state::EXIT_STATUS_SIGKILL,
            exited_at: Some(timestamp()?).into(),
            ..DeleteResponse::default()
        })
    }

    fn wait(&mut self) {
        self.exit.wait();
    }

    fn create_task_service(&self, publisher: RemotePublisher) -> Service {
        let namespace = self.flags.namespace.clone();
        let tasks = Tasks::default();
        if let Err(error) = exit_on_sigterm(Arc::clone(&tasks), Arc::clone(&self.exit)) {
            log::warn!(
                "cannot handle SIGTERM, so this shim may delay the machine's shutdown: {error}"
            );
        }
        Service {
            namespace: namespace.clone(),
            containerd: self.flags.address.clone(),
            events: Arc::new(Events {
                publisher: Mutex::new(publisher),
                address: std::env::var("TTRPC_ADDRESS").unwrap_or_default(),
                namespace,
            }),
            exit: Arc::clone(&self.exit),
            tasks,
        }
    }
}

/// Ends the shim on SIGTERM, which every process gets when the machine shuts down, as soon as its containers have
/// ended. Otherwise the machine would wait for the shim, and then kill it.
fn exit_on_sigterm(tasks: Tasks, exit: Arc<ExitSignal>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM])?;
    let wait = move || {
        if signals.forever().next().is_some() {
            let running: Vec<Arc<Task>> =
                tasks.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            for task in running {
                task.state.wait();
            }
            exit.signal();
        }
    };
    std::thread::Builder::new().name("shutdown".into()).spawn(wait).map(drop)
}

impl PodShim {
    /// Kills the compiler of a shim that was killed, and removes its cgroup, which is in the pod's or beside it.
    fn stop_compiler(&self) {
        let Ok(spec) = Spec::load(self.bundle().join("config.json")) else { return };
        let root = Path::new(plan::CGROUP_ROOT);
        let Some(inside) = PodCgroup::for_compiler(&spec, &self.flags.id, root) else { return };
        for cgroup in [inside.clone().beside(0), inside] {
            cgroup.kill();
            cgroup.remove();
        }
    }

    /// Removes the socket if no shim listens on it. While the pod has other containers, one does.
    fn remove_dead_socket(&self) {
        let Ok(address) = std::fs::read_to_string(self.bundle().join("address")) else { return };
        let path = address.trim().trim_start_matches("unix://");
        if UnixStream::connect(path).is_err() {
            // It may have been removed already.
            let _ = std::fs::remove_file(path);
        }
    }

    /// The folder that containerd created for the container, and in which it starts this process.
    fn bundle(&self) -> &Path {
        Path::new(if self.flags.bundle.is_empty() { "." } else { &self.flags.bundle })
    }
}
