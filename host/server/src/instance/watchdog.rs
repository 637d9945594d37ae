//! Watches guests whose code has no checks, and abandons those that exceed their limit on CPU time.
//!
//! Such a guest cannot be stopped while it computes. The client still gets its error in time, and the guest's permit is
//! free for others. The guest itself goes on at the lowest priority, on a thread of its own, until its work is done.
//! When as many abandoned guests still run as instances may run at once, the server exits, so that its supervisor
//! starts a fresh one: see [`Watchdog::exhausted`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::guest_thread::{self, Ended};
use super::permit::Permit;
use crate::telemetry::metrics::Metrics;
use spotter_config::Limits;
use spotter_runtime::limits::cpu_limit::CpuLimitExceeded;
use spotter_runtime::limits::usage::Usage;

/// How often a guest is checked once it may have reached its limit.
const CPU_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The guests that were given up.
pub(super) struct Watchdog {
    limit: Duration,
    instances: usize,
    abandoned: Arc<AtomicUsize>,
    exhausted: Notify,
    metrics: Arc<Metrics>,
}

/// A guest that is being watched. When dropped, the guest is stopped the next time it waits.
pub(super) struct WatchedGuest {
    _cancel: DropGuard,
    outcome: JoinHandle<Result<(), CpuLimitExceeded>>,
}

impl Watchdog {
    pub(crate) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limit: limits.request_cpu,
            instances: limits.instances,
            abandoned: Arc::default(),
            exhausted: Notify::new(),
            metrics,
        }
    }

    /// Waits until as many guests that were given up are still running as may run at once.
    pub(crate) async fn exhausted(&self) {
        self.exhausted.notified().await;
    }

    /// Runs a guest. Its permit is released when it ends or is given up.
    pub(crate) fn run(
        self: &Arc<Self>,
        tracker: &TaskTracker,
        guest: impl Future<Output = ()> + Send + 'static,
        usage: Arc<Usage>,
        permit: Arc<Permit>,
    ) -> WatchedGuest {
        let cancelled = CancellationToken::new();
        let ended = guest_thread::start(guest, cancelled.clone());
        let watchdog = Arc::clone(self);
        let stop = cancelled.clone();
        let outcome = tracker.spawn(async move {
            let outcome = watchdog.watch(ended, &usage, &stop).await;
            permit.end();
            outcome
        });
        WatchedGuest { _cancel: cancelled.drop_guard(), outcome }
    }

    async fn watch(
        &self,
        mut ended: Ended,
        usage: &Usage,
        cancelled: &CancellationToken,
    ) -> Result<(), CpuLimitExceeded> {
        let mut wait = self.limit;
        loop {
            if tokio::time::timeout(wait, &mut ended).await.is_ok() {
                return Ok(());
            }
            match self.limit.checked_sub(usage.cpu()) {
                Some(left) if !left.is_zero() => wait = left.max(CPU_CHECK_INTERVAL),
                _ => break,
            }
        }
        // A guest that waits ends at once.
        cancelled.cancel();
        if tokio::time::timeout(CPU_CHECK_INTERVAL, &mut ended).await.is_err() {
            usage.lower_priority();
            self.count_until_end(ended);
        }
        Err(CpuLimitExceeded)
    }

    /// Counts a guest as given up until it ends.
    fn count_until_end(&self, ended: Ended) {
        let abandoned = Arc::clone(&self.abandoned);
        if abandoned.fetch_add(1, Ordering::Relaxed) + 1 == self.instances {
            self.exhausted.notify_one();
        }
        let guard = self.metrics.track_abandoned();
        tokio::spawn(async move {
            let _ = ended.await;
            abandoned.fetch_sub(1, Ordering::Relaxed);
            drop(guard);
        });
    }
}

impl WatchedGuest {
    /// Waits until the guest ends or is given up.
    ///
    /// # Errors
    /// If it is given up.
    pub(crate) async fn ended(mut self) -> Result<(), CpuLimitExceeded> {
        (&mut self.outcome).await.unwrap_or(Ok(()))
    }
}
