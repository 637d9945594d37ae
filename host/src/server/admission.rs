//! Who may run now, who waits, and who is turned away, decided before a body is read or an
//! instance made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;
use super::metrics::{Metrics, seconds};
use crate::runtime::Limits;

/// A fixed number of places, and a short queue before them.
pub struct Admission {
    places: Arc<Semaphore>,
    /// For guests that other guests call.
    nested: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_length: usize,
    queue_wait: Duration,
    metrics: Arc<Metrics>,
}

/// Who asks for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A client: it may have to queue.
    Client,
    /// A guest that waits for the one it calls. It gets a place that no client does, so that callers
    /// and called cannot wait for each other.
    Guest,
}

/// The right to run one instance; given back when dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Admission {
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.instances)),
            nested: Arc::new(Semaphore::new(limits.nested_instances())),
            waiting: AtomicUsize::new(0),
            queue_length: limits.queue_length,
            queue_wait: limits.queue_wait,
            metrics,
        }
    }

    /// Whether a request could wait here if it came now: asked before its body is read.
    ///
    /// # Errors
    /// [`Fault::QueueFull`].
    pub fn check(&self, caller: Caller) -> Result<(), Fault> {
        let is_full = self.waiting.load(Ordering::Relaxed) >= self.queue_length;
        if caller == Caller::Client && is_full && self.places.available_permits() == 0 {
            return Err(Fault::QueueFull { length: self.queue_length });
        }
        Ok(())
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Fault::QueueFull`] at once, [`Fault::QueueTimeout`] after the longest wait.
    pub async fn enter(&self, caller: Caller) -> Result<Place, Fault> {
        let arrived = Instant::now();
        let permit = match caller {
            Caller::Client => match Arc::clone(&self.places).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => self.wait().await?,
            },
            Caller::Guest => self.permit(&self.nested).await?,
        };
        self.metrics.queue.observe(seconds(arrived.elapsed()));
        self.metrics.instances.inc();
        Ok(Place { _permit: permit, metrics: Arc::clone(&self.metrics) })
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let waiting = Waiting::begin(self);
        if waiting.before >= self.queue_length {
            return Err(Fault::QueueFull { length: self.queue_length });
        }
        self.permit(&self.places).await
    }

    async fn permit(&self, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
        let permit = Arc::clone(of).acquire_owned();
        match tokio::time::timeout(self.queue_wait, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Fault::QueueTimeout { waited: self.queue_wait }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.instances.dec();
    }
}

/// Counts one that waits, until it is dropped: whether it got in, gave up or went away.
struct Waiting<'a> {
    admission: &'a Admission,
    /// How many waited already.
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(admission: &'a Admission) -> Self {
        admission.metrics.queued.inc();
        Self { admission, before: admission.waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.admission.metrics.queued.dec();
        self.admission.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
