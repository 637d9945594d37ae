//! The processor time and memory that one guest uses.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// The processor time and memory that one guest uses.
#[derive(Debug, Default)]
pub struct Usage {
    cpu_nanos: AtomicU64,
    /// The start of the current poll, by its thread's clock, plus one; 0 between polls.
    running_since: AtomicU64,
    memory_peak: AtomicU64,
}

impl Usage {
    pub fn start() -> Arc<Self> {
        Arc::default()
    }

    /// Records the guest's linear memory, in bytes.
    pub(super) fn record_memory(&self, bytes: u64) {
        self.memory_peak.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The guest's peak linear memory, in bytes.
    #[allow(clippy::cast_precision_loss, reason = "memories are far below 2^53 bytes")]
    pub fn memory_peak(&self) -> f64 {
        self.memory_peak.load(Ordering::Relaxed) as f64
    }

    /// The processor time so far. Includes the current poll only if called on its thread.
    pub fn cpu(&self) -> Duration {
        let running = match self.running_since.load(Ordering::Relaxed) {
            0 => 0,
            since => thread_nanos().saturating_sub(since),
        };
        Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed) + running)
    }
}

/// This thread's processor time so far, in nanoseconds, plus one.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs() + 1
}

/// Counts the processor time of a future's polls as its guest's.
pub struct Metered<F> {
    future: Pin<Box<F>>,
    used: Arc<Usage>,
}

impl<F: Future> Metered<F> {
    pub fn new(future: F, used: Arc<Usage>) -> Self {
        Self { future: Box::pin(future), used }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let began = thread_nanos();
        self.used.running_since.store(began, Ordering::Relaxed);
        let polled = self.future.as_mut().poll(context);
        self.used.running_since.store(0, Ordering::Relaxed);
        let spent = thread_nanos().saturating_sub(began);
        self.used.cpu_nanos.fetch_add(spent, Ordering::Relaxed);
        polled
    }
}
