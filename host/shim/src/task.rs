//! A task: one container, from its creation to the exit of its process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use containerd_shim::monitor::{ExitEvent, Subject, Subscription, Topic, monitor_subscribe};
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::util::timestamp;

use super::container::Container;
use super::container_log::ContainerLog;
use super::oom::OomKills;
use super::pending_code;
use super::plan::Plan;
use super::request::ContainerRequest;

/// The exit status of a process that was killed with SIGKILL.
pub const EXIT_STATUS_SIGKILL: u32 = 128 + 9;

/// One container.
pub struct Task {
    pub request: ContainerRequest,
    pub container: Container,
    pub pid: u32,
    progress: Arc<Progress>,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    Created,
    Running,
    Stopped,
}

/// How and when its process ended.
#[derive(Clone)]
pub struct Exit {
    pub status: u32,
    /// Whether the system killed it.
    pub reason: ExitReason,
    pub at: Timestamp,
}

/// The reason why a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It exited by itself, or a signal ended it.
    Normal,
    /// The container exceeded its memory limit.
    OutOfMemory,
}

#[derive(Default)]
struct Progress {
    state: Mutex<TaskState>,
    changed: Condvar,
}

#[derive(Default)]
struct TaskState {
    is_started: bool,
    exit: Option<Exit>,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, TaskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        // Subscribe before there is a process that could end.
        let exits = monitor_subscribe(Topic::Pid)?;
        let container = Container::create(plan)?;
        let pid = container.pid()?;
        let compiling = pending.map(|code| code.start(log, pid.unsigned_abs())).transpose()?;
        let progress = Arc::new(Progress::default());
        let watched = Arc::clone(&progress);
        // Find the cgroup while the process still exists.
        let memory = OomKills::for_pid(pid.unsigned_abs());
        let watch = move || {
            let status = wait_for_exit(pid, &exits).unwrap_or(EXIT_STATUS_SIGKILL);
            let at = timestamp().unwrap_or_default();
            if let Some(compiling) = compiling {
                compiling.cancel();
            }
            let reason = match memory {
                Some(memory) if status == EXIT_STATUS_SIGKILL && memory.occurred() => {
                    ExitReason::OutOfMemory
                }
                _ => ExitReason::Normal,
            };
            let exit = Exit { status, reason, at };
            watched.state().exit = Some(exit.clone());
            watched.changed.notify_all();
            on_exit(pid.unsigned_abs(), &exit);
        };
        std::thread::Builder::new().spawn(watch).context("cannot watch the container")?;
        Ok(Self { request, container, pid: pid.unsigned_abs(), progress })
    }

    /// Starts the container's program.
    ///
    /// # Errors
    /// If it has already been started.
    pub fn start(&self) -> anyhow::Result<()> {
        self.container.start()?;
        self.progress.state().is_started = true;
        Ok(())
    }

    pub fn status(&self) -> TaskStatus {
        match &*self.progress.state() {
            TaskState { exit: Some(_), .. } => TaskStatus::Stopped,
            TaskState { is_started: true, .. } => TaskStatus::Running,
            TaskState { is_started: false, .. } => TaskStatus::Created,
        }
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

    /// How its process ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.progress.state().exit.clone()
    }

    /// Waits until its process has ended.
    pub fn wait(&self) -> Exit {
        let mut state = self.progress.state();
        loop {
            if let Some(exit) = &state.exit {
                return exit.clone();
            }
            state = self.progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Waits until the shim's reaper reports the end of this process.
fn wait_for_exit(pid: i32, exits: &Subscription) -> Option<u32> {
    exits.rx.iter().find_map(|ExitEvent { subject, exit_code }| match subject {
        Subject::Pid(ended) if ended == pid => Some(exit_code.unsigned_abs()),
        _ => None,
    })
}
