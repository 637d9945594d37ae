//! A task: one container, from its creation to the exit of its process.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use containerd_shim::monitor::{ExitEvent, Subject, Subscription, Topic, monitor_subscribe};

use super::container::Container;
use super::container_health::ContainerHealth;
use super::container_log::ContainerLog;
use super::exec::{Exec, MAX_EXECS};
use super::oom::OomKills;
use super::pending_code::{self, RunningCompilations};
use super::plan::Plan;
use super::process_state::{EXIT_STATUS_SIGKILL, Exit, ExitReason, ProcessState, ProcessStatus};
use super::request::ContainerRequest;

/// One container.
pub struct Task {
    pub request: ContainerRequest,
    pub container: Container,
    pub pid: u32,
    pub(super) state: Arc<ProcessState>,
    /// `None` for a Linux program.
    health: Option<Arc<ContainerHealth>>,
    /// The commands in the container, by their ids.
    execs: Mutex<BTreeMap<String, Arc<Exec>>>,
}

impl Task {
    /// Creates a container. `on_exit` is called when its process has ended.
    ///
    /// # Errors
    /// If its image or its configuration is invalid, or the system refuses.
    pub fn create(
        request: ContainerRequest,
        on_exit: impl FnOnce(u32, &Exit) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let name = request.unique_name();
        Self::try_create(request, on_exit).inspect_err(|_| pending_code::remove(&name))
    }

    fn try_create(
        request: ContainerRequest,
        on_exit: impl FnOnce(u32, &Exit) + Send + 'static,
    ) -> anyhow::Result<Self> {
        // Only the request to containerd for the image is asynchronous.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut log = ContainerLog::new(&request.stderr);
        let (plan, pending) = runtime.block_on(Plan::for_request(&request, &mut log))?;
        let admin = plan.program.admin()?;
        // Subscribe before there is a process that could end.
        let exits = monitor_subscribe(Topic::Pid)?;
        let container = Container::create(plan)?;
        let pid = container.pid()?;
        // It fails only if the process has already ended, which is reported below.
        let network = File::open(format!("/proc/{pid}/ns/net")).ok();
        let compiling = pending.map(|code| code.start(log, pid.unsigned_abs())).transpose()?;
        let step = compiling.as_ref().map(RunningCompilations::step);
        let health = admin.zip(network);
        let health = health.map(|(admin, network)| ContainerHealth::new(admin, network, step));
        let health = health.map(Arc::new);
        let state = Arc::new(ProcessState::default());
        let watched = Arc::clone(&state);
        // Find the cgroup while the process still exists.
        let memory = OomKills::for_pid(pid.unsigned_abs());
        let watch = move || {
            let status = wait_for_exit(pid, &exits).unwrap_or(EXIT_STATUS_SIGKILL);
            let exit = Exit::now(status, ExitReason::Normal);
            if let Some(compiling) = compiling {
                compiling.cancel();
            }
            let reason = match memory {
                Some(memory) if status == EXIT_STATUS_SIGKILL && memory.occurred() => {
                    ExitReason::OutOfMemory
                }
                _ => ExitReason::Normal,
            };
            let exit = Exit { reason, ..exit };
            watched.set_exit(exit.clone());
            on_exit(pid.unsigned_abs(), &exit);
        };
        std::thread::Builder::new().spawn(watch).context("cannot watch the container")?;
        let pid = pid.unsigned_abs();
        Ok(Self { request, container, pid, state, health, execs: Mutex::default() })
    }

    /// Starts the container's program.
    ///
    /// # Errors
    /// If it has already been started.
    pub fn start(&self) -> anyhow::Result<()> {
        self.container.start()?;
        self.state.set_started();
        Ok(())
    }

    /// Removes the container. Its process is killed if it is still running.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn delete(&self) -> anyhow::Result<()> {
        self.container.delete()?;
        pending_code::remove(&self.request.unique_name());
        Ok(())
    }

    /// Adds a command, which has not been started.
    pub(super) fn add_exec(&self, id: &str, exec: Exec) -> Result<(), ExecRefusal> {
        let mut execs = self.execs();
        if execs.contains_key(id) {
            return Err(ExecRefusal::IdInUse);
        }
        if execs.len() >= MAX_EXECS {
            // containerd may have been restarted before it deleted them.
            execs.retain(|_, exec| exec.state.status() != ProcessStatus::Stopped);
        }
        if execs.len() >= MAX_EXECS {
            return Err(ExecRefusal::TooMany);
        }
        execs.insert(id.to_owned(), Arc::new(exec));
        Ok(())
    }

    /// The command with this id.
    pub(super) fn exec(&self, id: &str) -> Option<Arc<Exec>> {
        self.execs().get(id).cloned()
    }

    /// What `spotter health` asks; `None` if the container runs a Linux program.
    pub(super) fn health(&self) -> Option<&Arc<ContainerHealth>> {
        self.health.as_ref()
    }

    pub(super) fn remove_exec(&self, id: &str) {
        self.execs().remove(id);
    }

    fn execs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Exec>>> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a command is not added.
pub(super) enum ExecRefusal {
    IdInUse,
    TooMany,
}

/// Waits until the shim's reaper reports the end of this process.
fn wait_for_exit(pid: i32, exits: &Subscription) -> Option<u32> {
    exits.rx.iter().find_map(|ExitEvent { subject, exit_code }| match subject {
        Subject::Pid(ended) if ended == pid => Some(exit_code.unsigned_abs()),
        _ => None,
    })
}
