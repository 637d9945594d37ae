//! Admission control: limits how many requests wait for an instance, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::permit::{Permit, Starting};
use super::scheduler::{InstanceKey, Scheduler};
use crate::reply::host_error::HostError;
use crate::telemetry::metrics::{GaugeGuard, Metrics, seconds};
use spotter_config::Limits;

/// A short queue for each component, and for each depth of calls between instances.
pub(crate) struct Admission {
    scheduler: Arc<Scheduler>,
    queue_length: usize,
    queue_timeout: Duration,
    /// Instances that may exist before their requests' bodies have arrived.
    early_starts: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Permits an instance to start before its request's body has arrived.
pub(crate) struct EarlyPermit {
    pub permit: Permit,
    /// To be dropped at the end of the body.
    pub until_body_end: OwnedSemaphorePermit,
}

impl Admission {
    /// `components` are the ids, each with the number of instances that its manifest allows.
    pub(crate) fn new(
        limits: &Limits,
        components: &BTreeMap<String, Option<usize>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            scheduler: Arc::new(Scheduler::new(limits, components)),
            queue_length: limits.queue_length,
            queue_timeout: limits.queue_timeout,
            early_starts: Arc::new(Semaphore::new((limits.max_instances / 4).max(1))),
            metrics,
        }
    }

    /// Checks for space in the component's queue before the body is read. `hops` is the depth of calls between
    /// instances, 0 for a client's request.
    ///
    /// # Errors
    /// [`HostError::QueueFull`].
    pub(crate) fn check(&self, component: &str, hops: u32) -> Result<(), HostError> {
        let key = self.key(component, hops)?;
        if self.scheduler.could_start(key) { Ok(()) } else { self.check_queue(key) }
    }

    /// Waits until an instance of the component may start.
    ///
    /// # Errors
    /// [`HostError::QueueFull`] immediately, [`HostError::QueueTimeout`] after [`Limits::queue_timeout`].
    pub(crate) async fn acquire(&self, component: &str, hops: u32) -> Result<Permit, HostError> {
        let arrived = Instant::now();
        let key = self.key(component, hops)?;
        let permit = match Permit::try_new(&self.scheduler, &self.metrics, key) {
            Some(permit) => permit,
            None => self.wait(key).await?,
        };
        self.metrics.queue.observe(seconds(arrived.elapsed()));
        Ok(permit)
    }

    /// Starts an instance before its request's body has arrived. `None` unless enough capacity is free, so that slow
    /// clients take no instance from others.
    pub(crate) fn acquire_early(&self, component: &str, hops: u32) -> Option<EarlyPermit> {
        let until_body_end = Arc::clone(&self.early_starts).try_acquire_owned().ok()?;
        let key = self.scheduler.key(component, hops)?;
        let permit = Permit::try_new_early(&self.scheduler, &self.metrics, key)?;
        self.metrics.queue.observe(0.0);
        Some(EarlyPermit { permit, until_body_end })
    }

    async fn wait(&self, key: InstanceKey) -> Result<Permit, HostError> {
        self.check_queue(key)?;
        let _queued = GaugeGuard::new(&self.metrics.queued);
        let starting = Starting::new(&self.scheduler, &self.metrics, key);
        let timeout = || HostError::QueueTimeout { waited: self.queue_timeout };
        tokio::time::timeout(self.queue_timeout, starting).await.map_err(|_| timeout())
    }

    fn check_queue(&self, key: InstanceKey) -> Result<(), HostError> {
        let is_full = self.scheduler.queue_len(key) >= self.queue_length;
        if is_full { Err(self.full()) } else { Ok(()) }
    }

    fn key(&self, component: &str, hops: u32) -> Result<InstanceKey, HostError> {
        self.scheduler.key(component, hops).ok_or_else(|| self.full())
    }

    fn full(&self) -> HostError {
        HostError::QueueFull { length: self.queue_length }
    }
}
