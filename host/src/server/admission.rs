//! Who may run now, who waits, and who is turned away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;
use super::metrics::{Metrics, seconds};
use crate::runtime::Limits;
use crate::runtime::outbound::MAX_HOPS;

/// A fixed number of places, and a short queue before them: those of clients, and others for guests that
/// guests call, by how many have called one another. So whoever waits, waits for none that waits for it.
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

/// The right to run one instance; given back when dropped.
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

    /// Whether a request could wait here if it came now: asked before its body is read. It comes from a
    /// guest that is the last of `hops`, or from a client (0).
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

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Fault::QueueFull`] at once, [`Fault::QueueTimeout`] after the longest wait.
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

/// Counts one that waits, until it is dropped: whether it got in, gave up or went away.
struct Waiting<'a> {
    queue: &'a Queue,
    metrics: &'a Metrics,
    /// How many waited already.
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
