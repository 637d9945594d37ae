//! Admission control: limits how many requests wait for an instance, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fault::Fault;
use super::metrics::{GaugeGuard, Metrics, seconds};
use super::permit::{Permit, Starting};
use super::scheduler::{Claim, Scheduler};
use spotter_config::Limits;

/// A short queue for each component, and for each depth of calls between instances.
pub struct Admission {
    scheduler: Arc<Scheduler>,
    queue_length: usize,
    queue_timeout: Duration,
    /// Instances that may exist before their requests' bodies have arrived.
    early: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The start of an instance before its request's body has arrived.
pub struct EarlyStart {
    pub permit: Permit,
    /// To be dropped at the end of the body.
    pub slot: OwnedSemaphorePermit,
}

impl Admission {
    /// `components` are the ids, each with the number of instances that its manifest allows.
    pub fn new(
        limits: &Limits,
        components: &BTreeMap<String, Option<usize>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            scheduler: Arc::new(Scheduler::new(limits, components)),
            queue_length: limits.queue_length,
            queue_timeout: limits.queue_timeout,
            early: Arc::new(Semaphore::new((limits.max_instances / 4).max(1))),
            metrics,
        }
    }

    /// Checks for space in the component's queue before the body is read. `hops` is the depth of calls between
    /// instances, 0 for a client's request.
    ///
    /// # Errors
    /// [`Fault::QueueFull`].
    pub fn check(&self, component: &str, hops: u32) -> Result<(), Fault> {
        let claim = self.claim(component, hops)?;
        if self.scheduler.could_start(claim) { Ok(()) } else { self.check_queue(claim) }
    }

    /// Waits until an instance of the component may start.
    ///
    /// # Errors
    /// [`Fault::QueueFull`] immediately, [`Fault::QueueTimeout`] after [`Limits::queue_timeout`].
    pub async fn acquire(&self, component: &str, hops: u32) -> Result<Permit, Fault> {
        let arrived = Instant::now();
        let claim = self.claim(component, hops)?;
        let permit = match Permit::try_new(&self.scheduler, &self.metrics, claim) {
            Some(permit) => permit,
            None => self.wait(claim).await?,
        };
        self.metrics.queue.observe(seconds(arrived.elapsed()));
        Ok(permit)
    }

    /// Starts an instance before its request's body has arrived. `None` unless there is plenty of room, so that clients
    /// that send slowly keep nobody from an instance.
    pub fn acquire_early(&self, component: &str, hops: u32) -> Option<EarlyStart> {
        let slot = Arc::clone(&self.early).try_acquire_owned().ok()?;
        let claim = self.scheduler.claim(component, hops)?;
        let permit = Permit::try_new_early(&self.scheduler, &self.metrics, claim)?;
        self.metrics.queue.observe(0.0);
        Some(EarlyStart { permit, slot })
    }

    async fn wait(&self, claim: Claim) -> Result<Permit, Fault> {
        self.check_queue(claim)?;
        let _queued = GaugeGuard::of(&self.metrics.queued);
        let starting = Starting::new(&self.scheduler, &self.metrics, claim);
        let timeout = || Fault::QueueTimeout { waited: self.queue_timeout };
        tokio::time::timeout(self.queue_timeout, starting).await.map_err(|_| timeout())
    }

    fn check_queue(&self, claim: Claim) -> Result<(), Fault> {
        let is_full = self.scheduler.lined_up(claim) >= self.queue_length;
        if is_full { Err(self.full()) } else { Ok(()) }
    }

    fn claim(&self, component: &str, hops: u32) -> Result<Claim, Fault> {
        self.scheduler.claim(component, hops).ok_or_else(|| self.full())
    }

    fn full(&self) -> Fault {
        Fault::QueueFull { length: self.queue_length }
    }
}
