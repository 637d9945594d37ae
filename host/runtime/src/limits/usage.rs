//! The CPU time and memory that one guest uses.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::process::Pid;

/// The CPU time and memory that one guest uses.
#[derive(Debug, Default)]
pub struct Usage {
    cpu_nanos: AtomicU64,
    /// The start of the current poll, by its thread's clock, plus one; 0 between polls.
    running_since: AtomicU64,
    /// The thread of the current poll.
    thread: AtomicI32,
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
    pub fn memory_peak_bytes(&self) -> u64 {
        self.memory_peak.load(Ordering::Relaxed)
    }

    /// The guest's peak linear memory, in bytes, as metrics have it.
    #[allow(clippy::cast_precision_loss, reason = "memories are far below 2^53 bytes")]
    pub fn memory_peak(&self) -> f64 {
        self.memory_peak_bytes() as f64
    }

    /// The CPU time so far. If the guest runs on another thread, up to a tick of the scheduler may be missing.
    pub fn cpu(&self) -> Duration {
        // Read first: a poll that ends meanwhile adds its time there, which must not count twice.
        let ended = self.cpu_nanos.load(Ordering::Acquire);
        let running = match self.running_since.load(Ordering::Acquire) {
            0 => 0,
            since => self.nanos_of_running_thread().saturating_sub(since),
        };
        Duration::from_nanos(ended + running)
    }

    /// Counts CPU time that other threads spend for the guest.
    pub(crate) fn add_cpu(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Gives the thread that the guest runs on the lowest priority. Without effect between polls.
    pub fn lower_priority(&self) {
        const LOWEST_PRIORITY_NICE: i32 = 19;
        let thread = self.thread.load(Ordering::Relaxed);
        if self.running_since.load(Ordering::Relaxed) != 0 {
            // A thread that has just ended needs no priority.
            let _ =
                rustix::process::setpriority_process(Pid::from_raw(thread), LOWEST_PRIORITY_NICE);
        }
    }

    fn nanos_of_running_thread(&self) -> u64 {
        let thread = self.thread.load(Ordering::Relaxed);
        if thread == own_thread() {
            return thread_nanos();
        }
        // The first number is the time on a processor (Documentation/scheduler/sched-stats.rst of Linux).
        let statistics = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
        let nanos = statistics.ok().and_then(|text| text.split(' ').next()?.parse().ok());
        nanos.unwrap_or(0)
    }
}

fn own_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// This thread's CPU time so far, in nanoseconds, plus one.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs() + 1
}

/// Counts the CPU time of a future's polls as its guest's.
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
        self.used.thread.store(own_thread(), Ordering::Relaxed);
        self.used.running_since.store(began, Ordering::Relaxed);
        let polled = self.future.as_mut().poll(context);
        self.used.running_since.store(0, Ordering::Relaxed);
        let spent = thread_nanos().saturating_sub(began);
        self.used.cpu_nanos.fetch_add(spent, Ordering::Release);
        polled
    }
}
