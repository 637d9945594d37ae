//! An instance's permit to exist, and its CPU slot, which it holds only while it computes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::scheduler::{InstanceKey, Scheduler, Waiter};
use crate::telemetry::metrics::Metrics;

/// What an instance needs in the host in addition to its linear memory, in bytes: its stack, its handles, its tables.
const INSTANCE_OVERHEAD_BYTES: u64 = 256 << 10;

/// Permits one instance to exist. Dropping it releases everything that the instance holds.
pub(crate) struct Permit {
    scheduler: Arc<Scheduler>,
    metrics: Arc<Metrics>,
    key: InstanceKey,
    slot: Mutex<SlotState>,
}

/// Whether an instance holds a CPU slot.
enum SlotState {
    /// It computes for the first time, although its request's body has not arrived.
    StartedEarly,
    Computing,
    /// It waits, and holds this much memory, in bytes.
    Waiting(u64),
    /// It wants to compute again, and waits for a slot. It holds this much memory, in bytes.
    Asking(u64, Arc<Waiter>),
    Ended,
}

impl SlotState {
    fn is_computing(&self) -> bool {
        matches!(self, Self::StartedEarly | Self::Computing)
    }
}

impl Permit {
    /// The permit of an instance that has started.
    fn new(
        scheduler: &Arc<Scheduler>,
        metrics: &Arc<Metrics>,
        key: InstanceKey,
        slot: SlotState,
    ) -> Self {
        metrics.instances.inc();
        Self {
            scheduler: Arc::clone(scheduler),
            metrics: Arc::clone(metrics),
            key,
            slot: Mutex::new(slot),
        }
    }

    /// Starts an instance, if it may start at once.
    pub(super) fn try_new(
        scheduler: &Arc<Scheduler>,
        metrics: &Arc<Metrics>,
        key: InstanceKey,
    ) -> Option<Self> {
        let is_started = scheduler.try_start(key);
        is_started.then(|| Self::new(scheduler, metrics, key, SlotState::Computing))
    }

    /// Starts an instance whose request's body has not arrived, if enough capacity is free.
    pub(super) fn try_new_early(
        scheduler: &Arc<Scheduler>,
        metrics: &Arc<Metrics>,
        key: InstanceKey,
    ) -> Option<Self> {
        let is_started = scheduler.try_start_early(key);
        is_started.then(|| Self::new(scheduler, metrics, key, SlotState::StartedEarly))
    }

    fn slot(&self) -> MutexGuard<'_, SlotState> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the instance holds a slot. An instance whose permit has [ended](Permit::end) gets none.
    pub(super) fn poll_slot(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut slot = self.slot();
        if let SlotState::Waiting(memory) = *slot {
            *slot = SlotState::Asking(memory, self.scheduler.resume(self.key, memory));
        }
        match &*slot {
            SlotState::StartedEarly | SlotState::Computing => return Poll::Ready(()),
            SlotState::Asking(_, waiter) => ready!(waiter.poll(context)),
            SlotState::Waiting(_) | SlotState::Ended => return Poll::Pending,
        }
        *slot = SlotState::Computing;
        self.metrics.waiting.dec();
        Poll::Ready(())
    }

    /// Releases the slot until the instance computes again. The instance keeps `linear_memory` bytes meanwhile.
    pub(super) fn release_slot(&self, linear_memory: u64) {
        let mut slot = self.slot();
        if !slot.is_computing() {
            return;
        }
        let memory = linear_memory + INSTANCE_OVERHEAD_BYTES;
        let before = std::mem::replace(&mut *slot, SlotState::Waiting(memory));
        self.metrics.waiting.inc();
        self.scheduler.pause(self.key, memory);
        if let SlotState::StartedEarly = before {
            self.scheduler.settle_early(self.key);
        }
    }

    /// Whether the instance holds a slot.
    pub(super) fn has_slot(&self) -> bool {
        self.slot().is_computing()
    }

    /// Releases everything.
    pub(crate) fn end(&self) {
        let ended = std::mem::replace(&mut *self.slot(), SlotState::Ended);
        match &ended {
            SlotState::StartedEarly => {
                self.scheduler.settle_early(self.key);
                self.scheduler.end_computing(self.key);
            }
            SlotState::Computing => self.scheduler.end_computing(self.key),
            SlotState::Waiting(memory) => self.scheduler.end_waiting(self.key, *memory, None),
            SlotState::Asking(memory, waiter) => {
                self.scheduler.end_waiting(self.key, *memory, Some(waiter));
            }
            SlotState::Ended => return,
        }
        self.metrics.instances.dec();
        if !ended.is_computing() {
            self.metrics.waiting.dec();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end();
    }
}

/// A request that waits for its instance to start.
pub(super) struct Starting<'a> {
    scheduler: &'a Arc<Scheduler>,
    metrics: &'a Arc<Metrics>,
    key: InstanceKey,
    /// `None` once the permit has been handed out.
    waiter: Option<Arc<Waiter>>,
}

impl<'a> Starting<'a> {
    /// Joins the queue for the start of an instance.
    pub(crate) fn new(
        scheduler: &'a Arc<Scheduler>,
        metrics: &'a Arc<Metrics>,
        key: InstanceKey,
    ) -> Self {
        Self { scheduler, metrics, key, waiter: Some(scheduler.start(key)) }
    }
}

impl Future for Starting<'_> {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let Some(waiter) = &self.waiter else { return Poll::Pending };
        ready!(waiter.poll(context));
        self.waiter = None;
        Poll::Ready(Permit::new(self.scheduler, self.metrics, self.key, SlotState::Computing))
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(waiter) = &self.waiter {
            self.scheduler.cancel_start(self.key, waiter);
        }
    }
}
