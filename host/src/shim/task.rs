//! One container as containerd sees it: created, started, killed, waited for, deleted.

use chrono::{DateTime, Utc};
use containerd_shim::monitor::{ExitEvent, Subject, Subscription, Topic, monitor_subscribe};
use containerd_shimkit::sandbox::sync::WaitableCell;
use containerd_shimkit::sandbox::{Error, Instance, InstanceConfig};

use super::container::Container;
use super::plan::Plan;

/// What a process ends with that is killed.
const KILLED: u32 = 128 + 9;

/// One container.
pub struct Task {
    id: String,
    container: Container,
    ended: WaitableCell<(u32, DateTime<Utc>)>,
}

impl Instance for Task {
    /// Whatever is wrong with an image is found here, so that containerd, and `kubectl describe`, say
    /// what.
    async fn new(id: String, config: &InstanceConfig) -> Result<Self, Error> {
        let plan = Plan::of(&id, config).await.map_err(in_words)?;
        let container = Container::create(plan).map_err(in_words)?;
        Ok(Self { id, container, ended: WaitableCell::new() })
    }

    async fn start(&self) -> Result<u32, Error> {
        let pid = self.container.pid().map_err(in_words)?;
        // Before it can end.
        let ends = monitor_subscribe(Topic::Pid).map_err(in_words)?;
        let ended = self.ended.clone().set_guard_with(|| (KILLED, Utc::now()));
        self.container.start().map_err(in_words)?;
        let cell = self.ended.clone();
        tokio::task::spawn_blocking(move || {
            let _ended = ended;
            if let Some(status) = status_of(pid, &ends) {
                let _ = cell.set((status, Utc::now()));
            }
        });
        log::info!("{} is process {pid}", self.id);
        Ok(pid.unsigned_abs())
    }

    async fn kill(&self, signal: u32) -> Result<(), Error> {
        self.container.kill(signal).map_err(in_words)
    }

    async fn delete(&self) -> Result<(), Error> {
        self.container.delete().map_err(in_words)
    }

    async fn wait(&self) -> (u32, DateTime<Utc>) {
        *self.ended.wait().await
    }
}

/// Waits until the shim's reaper has seen this process end.
fn status_of(pid: i32, ends: &Subscription) -> Option<u32> {
    let mut events = ends.rx.iter();
    events.find_map(|ExitEvent { subject, exit_code }| match subject {
        Subject::Pid(ended) if ended == pid => Some(exit_code.unsigned_abs()),
        _ => None,
    })
}

fn in_words(error: impl Into<anyhow::Error>) -> Error {
    Error::Others(format!("{:#}", error.into()))
}
