//! Admission control: limits how many instances run and how many requests wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;
use super::metrics::{Metrics, seconds};
use spotter_config::Limits;
use spotter_config::limits::MAX_HOPS;

/// A fixed number of permits with a short queue. Each depth of calls between guests has its own, so an
/// instance never waits for one that is waiting for it.
pub struct Admission {
    queues: Vec<Queue>,
    queue_length: usize,
    queue_timeout: Duration,
    metrics: Arc<Metrics>,
}

struct Queue {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Permission to run one instance, released when dropped.
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Admission {
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let queue = |_| Queue {
            permits: Arc::new(Semaphore::new(limits.instances)),
            waiting: AtomicUsize::new(0),
        };
        Self {
            queues: (0..=MAX_HOPS).map(queue).collect(),
            queue_length: limits.queue_length,
            queue_timeout: limits.queue_timeout,
            metrics,
        }
    }

    /// Checks for space in the queue before the body is read. `hops` is the depth of calls between guests,
    /// 0 for a client's request.
    ///
    /// # Errors
    /// [`Fault::QueueFull`].
    pub fn check(&self, hops: u32) -> Result<(), Fault> {
        let queue = self.queue(hops)?;
        let is_full = queue.waiting.load(Ordering::Relaxed) >= self.queue_length;
        if is_full && queue.permits.available_permits() == 0 {
            return Err(self.full());
        }
        Ok(())
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`Fault::QueueFull`] immediately, [`Fault::QueueTimeout`] after [`Limits::queue_timeout`].
    pub async fn acquire(&self, hops: u32) -> Result<Permit, Fault> {
        let arrived = Instant::now();
        let queue = self.queue(hops)?;
        let permit = match Arc::clone(&queue.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait(queue).await?,
        };
        self.metrics.queue.observe(seconds(arrived.elapsed()));
        self.metrics.instances.inc();
        Ok(Permit { _permit: permit, metrics: Arc::clone(&self.metrics) })
    }

    async fn wait(&self, queue: &Queue) -> Result<OwnedSemaphorePermit, Fault> {
        let waiting = Waiting::begin(queue, &self.metrics);
        if waiting.before >= self.queue_length {
            return Err(self.full());
        }
        let permit = Arc::clone(&queue.permits).acquire_owned();
        match tokio::time::timeout(self.queue_timeout, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Fault::QueueTimeout { waited: self.queue_timeout }),
        }
    }

    fn queue(&self, hops: u32) -> Result<&Queue, Fault> {
        self.queues.get(hops as usize).ok_or_else(|| self.full())
    }

    fn full(&self) -> Fault {
        Fault::QueueFull { length: self.queue_length }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.metrics.instances.dec();
    }
}

/// Counts a waiting request until dropped, whether it gets a permit, times out or is cancelled.
struct Waiting<'a> {
    queue: &'a Queue,
    metrics: &'a Metrics,
    /// How many requests were already waiting.
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(queue: &'a Queue, metrics: &'a Metrics) -> Self {
        metrics.queued.inc();
        Self { queue, metrics, before: queue.waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.metrics.queued.dec();
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
