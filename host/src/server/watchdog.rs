//! Watches guests whose code has no checks, and gives up those that exceed their limit on processor time.
//!
//! Such a guest cannot be stopped while it computes. The client gets its error in time all the same, and the guest's
//! permit is free for others: the guest goes on at the lowest priority, on a thread that the server has already
//! replaced, and ends when its work does. If as many have been given up as may run at once, the server ends, so that
//! its supervisor starts a fresh one: see [`Watchdog::exhausted`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::task::TaskTracker;

use super::admission::Permit;
use super::metrics::Metrics;
use crate::config::Limits;
use crate::runtime::usage::Usage;

/// How often a guest is checked once it may have reached its limit.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The guests that were given up.
pub(super) struct Watchdog {
    limit: Duration,
    instances: usize,
    abandoned: Arc<AtomicUsize>,
    exhausted: Notify,
    metrics: Arc<Metrics>,
}

/// The guest exceeded its limit on processor time.
#[derive(Debug)]
pub(super) struct Overrun;

/// A guest that is being watched. When dropped, the guest is stopped the next time it waits.
pub(super) struct Watched {
    guest: AbortHandle,
    outcome: JoinHandle<Result<(), Overrun>>,
}

impl Watchdog {
    pub(super) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limit: limits.request_cpu,
            instances: limits.instances,
            abandoned: Arc::default(),
            exhausted: Notify::new(),
            metrics,
        }
    }

    /// Waits until as many guests that were given up are still running as may run at once.
    pub(super) async fn exhausted(&self) {
        self.exhausted.notified().await;
    }

    /// Runs a guest. Its permit is released when it ends or is given up.
    pub(super) fn run(
        self: &Arc<Self>,
        tracker: &TaskTracker,
        guest: impl Future<Output = ()> + Send + 'static,
        usage: Arc<Usage>,
        permit: Permit,
    ) -> Watched {
        let task = tokio::spawn(InPlace(Box::pin(guest)));
        let guest = task.abort_handle();
        let watchdog = Arc::clone(self);
        let outcome = tracker.spawn(async move {
            let outcome = watchdog.watch(task, &usage).await;
            drop(permit);
            outcome
        });
        Watched { guest, outcome }
    }

    async fn watch(&self, mut task: JoinHandle<()>, usage: &Usage) -> Result<(), Overrun> {
        let mut wait = self.limit;
        loop {
            if tokio::time::timeout(wait, &mut task).await.is_ok() {
                return Ok(());
            }
            match self.limit.checked_sub(usage.cpu()) {
                Some(left) if !left.is_zero() => wait = left.max(CHECK_INTERVAL),
                _ => break,
            }
        }
        task.abort();
        usage.lower_priority();
        self.count_until_end(task);
        Err(Overrun)
    }

    /// Counts a guest as given up until it ends.
    fn count_until_end(&self, task: JoinHandle<()>) {
        let abandoned = Arc::clone(&self.abandoned);
        if abandoned.fetch_add(1, Ordering::Relaxed) + 1 == self.instances {
            self.exhausted.notify_one();
        }
        let guard = self.metrics.track_abandoned();
        tokio::spawn(async move {
            let _ = task.await;
            abandoned.fetch_sub(1, Ordering::Relaxed);
            drop(guard);
        });
    }
}

impl Watched {
    /// Waits until the guest ends or is given up.
    ///
    /// # Errors
    /// If it is given up.
    pub(super) async fn ended(mut self) -> Result<(), Overrun> {
        (&mut self.outcome).await.unwrap_or(Ok(()))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.guest.abort();
    }
}

/// Polls a future that may compute for long. The runtime moves its other tasks to another thread meanwhile.
struct InPlace<F>(Pin<Box<F>>);

impl<F: Future> Future for InPlace<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        tokio::task::block_in_place(|| self.0.as_mut().poll(context))
    }
}
