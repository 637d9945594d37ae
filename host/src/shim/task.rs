//! One container as containerd sees it: created, started, waited for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use containerd_shim::monitor::{ExitEvent, Subject, Subscription, Topic, monitor_subscribe};
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::util::timestamp;

use super::container::Container;
use super::plan::{ContainerRequest, Plan};
use super::usage::OomKills;

/// What a process ends with that is killed.
pub const KILLED: u32 = 128 + 9;

/// One container, made.
pub struct Task {
    pub request: ContainerRequest,
    pub container: Container,
    pub pid: u32,
    progress: Arc<Progress>,
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    Created,
    Running,
    Stopped,
}

/// How its process ended, and when.
#[derive(Clone)]
pub struct Exit {
    pub status: u32,
    /// Why, where the system ended it.
    pub reason: ExitReason,
    pub at: Timestamp,
}

/// Why a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Its own affair, or a signal's.
    Normal,
    /// Its container had no more memory.
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
    /// Makes a container; `on_exit` is called when its process has ended.
    ///
    /// # Errors
    /// Whatever is wrong with its image, or with what it is to be given.
    pub fn create(
        request: ContainerRequest,
        on_exit: impl FnOnce(u32, &Exit) + Send + 'static,
    ) -> anyhow::Result<Self> {
        // containerd is asked for the image: the only thing here that waits for others.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let plan = runtime.block_on(Plan::of(&request))?;
        // Before there is a process that could end.
        let exits = monitor_subscribe(Topic::Pid)?;
        let container = Container::create(plan)?;
        let pid = container.pid()?;
        let progress = Arc::new(Progress::default());
        let watched = Arc::clone(&progress);
        // Found while the process is there to ask for its cgroup.
        let memory = OomKills::of(pid.unsigned_abs());
        let watch = move || {
            let status = status_of(pid, &exits).unwrap_or(KILLED);
            let at = timestamp().unwrap_or_default();
            let reason = match memory {
                Some(memory) if status == KILLED && memory.occurred() => ExitReason::OutOfMemory,
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
    /// Where it has been started before.
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

/// Waits until the shim's reaper has seen this process end.
fn status_of(pid: i32, exits: &Subscription) -> Option<u32> {
    exits.rx.iter().find_map(|ExitEvent { subject, exit_code }| match subject {
        Subject::Pid(ended) if ended == pid => Some(exit_code.unsigned_abs()),
        _ => None,
    })
}
