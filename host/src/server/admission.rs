//! Who may run now, who waits, and who is turned away, decided before a body is read or an
//! instance made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;
use crate::runtime::Limits;

/// A fixed number of places, and a short queue before them.
pub struct Admission {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_length: usize,
    queue_wait: Duration,
}

/// The right to run one instance; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.instances)),
            waiting: AtomicUsize::new(0),
            queue_length: limits.queue_length,
            queue_wait: limits.queue_wait,
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Fault::QueueFull`] at once, [`Fault::QueueTimeout`] after the longest wait.
    pub async fn enter(&self) -> Result<Place, Fault> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let _waiting = self.queue()?;
        let permit =
            tokio::time::timeout(self.queue_wait, Arc::clone(&self.places).acquire_owned());
        match permit.await {
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Fault::QueueTimeout { waited: self.queue_wait }),
        }
    }

    fn queue(&self) -> Result<Waiting<'_>, Fault> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue_length {
            return Err(Fault::QueueFull { length: self.queue_length });
        }
        Ok(waiting)
    }
}

/// Counts one that waits, until it is dropped: whether it got in, gave up or went away.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
