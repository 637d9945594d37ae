//! One container as containerd sees it: created, started, waited for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use containerd_shim::monitor::{ExitEvent, Subject, Subscription, Topic, monitor_subscribe};
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::util::timestamp;

use super::container::Container;
use super::plan::{Plan, Request};
use super::usage::OutOfMemory;

/// What a process ends with that is killed.
pub const KILLED: u32 = 128 + 9;

/// One container, made.
pub struct Task {
    pub request: Request,
    pub container: Container,
    pub pid: u32,
    progress: Arc<Progress>,
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Created,
    Running,
    Stopped,
}

/// How its process ended, and when.
#[derive(Clone)]
pub struct Ended {
    pub status: u32,
    /// Why, where the system ended it.
    pub reason: Reason,
    pub at: Timestamp,
}

/// Why a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its own affair, or a signal's.
    Usual,
    /// Its container had no more memory.
    OutOfMemory,
}

#[derive(Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_started: bool,
    ended: Option<Ended>,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task {
    /// Makes a container; `tell` is called when its process has ended.
    ///
    /// # Errors
    /// Whatever is wrong with its image, or with what it is to be given.
    pub fn create(
        request: Request,
        tell: impl FnOnce(u32, &Ended) + Send + 'static,
    ) -> anyhow::Result<Self> {
        // containerd is asked for the image: the only thing here that waits for others.
        let waits = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let plan = waits.block_on(Plan::of(&request))?;
        // Before there is a process that could end.
        let ends = monitor_subscribe(Topic::Pid)?;
        let container = Container::create(plan)?;
        let pid = container.pid()?;
        let progress = Arc::new(Progress::default());
        let watched = Arc::clone(&progress);
        // Found while the process is there to ask for its cgroup.
        let memory = OutOfMemory::of(pid.unsigned_abs());
        let watch = move || {
            let status = status_of(pid, &ends).unwrap_or(KILLED);
            let at = timestamp().unwrap_or_default();
            let reason = match memory {
                Some(memory) if status == KILLED && memory.has_killed() => Reason::OutOfMemory,
                _ => Reason::Usual,
            };
            let ended = Ended { status, reason, at };
            watched.state().ended = Some(ended.clone());
            watched.changed.notify_all();
            tell(pid.unsigned_abs(), &ended);
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

    pub fn stage(&self) -> Stage {
        match &*self.progress.state() {
            State { ended: Some(_), .. } => Stage::Stopped,
            State { is_started: true, .. } => Stage::Running,
            State { is_started: false, .. } => Stage::Created,
        }
    }

    /// How its process ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.progress.state().ended.clone()
    }

    /// Waits until its process has ended.
    pub fn wait(&self) -> Ended {
        let mut state = self.progress.state();
        loop {
            if let Some(ended) = &state.ended {
                return ended.clone();
            }
            state = self.progress.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Waits until the shim's reaper has seen this process end.
fn status_of(pid: i32, ends: &Subscription) -> Option<u32> {
    ends.rx.iter().find_map(|ExitEvent { subject, exit_code }| match subject {
        Subject::Pid(ended) if ended == pid => Some(exit_code.unsigned_abs()),
        _ => None,
    })
}
