//! The limit on an instance's CPU time.
//!
//! Code that checks the epoch is stopped here. A network that runs in the host checks the limit itself
//! ([`crate::neural_network`]), and the server's watchdog abandons an instance whose code has no checks.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Store, UpdateDeadline};

use super::usage::Usage;

/// The guest used more CPU time than `request_cpu` allows.
#[derive(Debug)]
pub struct CpuLimitExceeded;

impl std::fmt::Display for CpuLimitExceeded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the guest exceeded its limit on CPU time")
    }
}

impl std::error::Error for CpuLimitExceeded {}

/// Limits the CPU time of a store's instance, whose code checks the epoch.
pub(crate) fn limit<T: 'static>(store: &mut Store<T>, request_cpu: Duration, usage: Arc<Usage>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if usage.cpu() > request_cpu {
            return Err(wasmtime::Error::new(CpuLimitExceeded));
        }
        // Let the server's own tasks and other guests run.
        Ok(UpdateDeadline::Yield(1))
    });
}
