//! How far a process has come: created, running or stopped.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::util::timestamp;

/// The exit status of a process that was killed with SIGKILL.
pub const EXIT_STATUS_SIGKILL: u32 = 128 + 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessStatus {
    Created,
    Running,
    Stopped,
}

/// How and when a process ended.
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

impl Exit {
    /// A process that ends now.
    pub(super) fn now(status: u32, reason: ExitReason) -> Self {
        Self { status, reason, at: timestamp().unwrap_or_default() }
    }
}

/// The state of a process, which several threads wait for.
#[derive(Default)]
pub(super) struct ProcessState {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    is_started: bool,
    exit: Option<Exit>,
}

impl ProcessState {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the process has started. Returns whether it had not before.
    pub(super) fn set_started(&self) -> bool {
        !std::mem::replace(&mut self.progress().is_started, true)
    }

    /// Notes that the process has ended. Returns whether it had not before.
    pub(super) fn set_exit(&self, exit: Exit) -> bool {
        let mut progress = self.progress();
        let is_first = progress.exit.is_none();
        progress.exit.get_or_insert(exit);
        self.changed.notify_all();
        is_first
    }

    pub(super) fn status(&self) -> ProcessStatus {
        self.status_and_exit().0
    }

    /// The status, and how the process ended, if it has.
    pub(super) fn status_and_exit(&self) -> (ProcessStatus, Option<Exit>) {
        let progress = self.progress();
        let status = match &*progress {
            Progress { exit: Some(_), .. } => ProcessStatus::Stopped,
            Progress { is_started: true, .. } => ProcessStatus::Running,
            Progress { is_started: false, .. } => ProcessStatus::Created,
        };
        (status, progress.exit.clone())
    }

    /// Waits until the process has ended.
    pub(super) fn wait(&self) -> Exit {
        let mut progress = self.progress();
        loop {
            if let Some(exit) = &progress.exit {
                return exit.clone();
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{EXIT_STATUS_SIGKILL, Exit, ExitReason, ProcessState, ProcessStatus};

    #[test]
    fn the_first_exit_counts_and_all_that_wait_get_it() {
        let state = Arc::new(ProcessState::default());
        assert_eq!(state.status(), ProcessStatus::Created);
        assert!(state.set_started() && !state.set_started());
        assert_eq!(state.status(), ProcessStatus::Running);
        let waiting = Arc::clone(&state);
        let waiting = std::thread::spawn(move || waiting.wait().status);
        assert!(state.set_exit(Exit::now(EXIT_STATUS_SIGKILL, ExitReason::Normal)));
        assert!(!state.set_exit(Exit::now(0, ExitReason::Normal)));
        let (status, exit) = state.status_and_exit();
        assert_eq!((status, exit.unwrap().status), (ProcessStatus::Stopped, EXIT_STATUS_SIGKILL));
        assert_eq!(waiting.join().unwrap(), EXIT_STATUS_SIGKILL);
    }
}
