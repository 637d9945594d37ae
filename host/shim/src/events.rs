//! Publishes events to containerd.

use std::sync::{Mutex, PoisonError};

use containerd_shim::event::Event;
use containerd_shim::protos::events::task::TaskExit;
use containerd_shim::protos::ttrpc::context::with_timeout;
use containerd_shim::publisher::RemotePublisher;

use super::process_state::Exit;

/// A client of containerd's events.
pub struct Events {
    pub publisher: Mutex<RemotePublisher>,
    /// The address that the publisher connects to.
    pub address: String,
    pub namespace: String,
}

/// How long publishing an event may take, in nanoseconds.
const PUBLISH_TIMEOUT_NANOS: i64 = 5_000_000_000;

impl Events {
    pub(super) fn send(&self, event: impl Event + Clone) {
        let topic = event.topic();
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        let publish = |publisher: &RemotePublisher| {
            let event = Box::new(event.clone());
            publisher.publish(with_timeout(PUBLISH_TIMEOUT_NANOS), &topic, &self.namespace, event)
        };
        if publish(&publisher).is_ok() {
            return;
        }
        // containerd has probably been restarted.
        let retried = RemotePublisher::new(&self.address).and_then(|reconnected| {
            *publisher = reconnected;
            publish(&publisher)
        });
        if let Err(error) = retried {
            log::warn!("cannot publish {topic} to containerd: {error}");
        }
    }
}

/// The event for the end of a container's process, or of a command in the container.
pub(super) fn exit_event(container: &str, process: &str, pid: u32, exit: &Exit) -> TaskExit {
    TaskExit {
        container_id: container.to_owned(),
        id: process.to_owned(),
        pid,
        exit_status: exit.status,
        exited_at: Some(exit.at.clone()).into(),
        ..TaskExit::default()
    }
}
