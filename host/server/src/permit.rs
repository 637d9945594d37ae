//! An instance's permission to exist, and its place at the processor, which it has only while it computes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use super::metrics::Metrics;
use super::scheduler::{Claim, Scheduler, Turn};

/// What an instance needs in the host beside its linear memory, in bytes: its stack, its handles, its tables.
const OVERHEAD_BYTES: u64 = 256 << 10;

/// Permission for one instance, given back when dropped.
pub struct Permit {
    scheduler: Arc<Scheduler>,
    metrics: Arc<Metrics>,
    claim: Claim,
    seat: Mutex<Seat>,
}

/// Whether an instance has a place at the processor.
enum Seat {
    Computing,
    /// It waits, and holds this much memory, in bytes.
    Waiting(u64),
    /// It wants to compute again.
    Asking(u64, Arc<Turn>),
    Ended,
}

impl Permit {
    /// The permit of an instance that has started.
    fn new(scheduler: &Arc<Scheduler>, metrics: &Arc<Metrics>, claim: Claim) -> Self {
        metrics.instances.inc();
        Self {
            scheduler: Arc::clone(scheduler),
            metrics: Arc::clone(metrics),
            claim,
            seat: Mutex::new(Seat::Computing),
        }
    }

    /// Starts an instance, if it may start at once.
    pub(super) fn try_new(
        scheduler: &Arc<Scheduler>,
        metrics: &Arc<Metrics>,
        claim: Claim,
    ) -> Option<Self> {
        scheduler.try_start(claim).then(|| Self::new(scheduler, metrics, claim))
    }

    /// Starts an instance whose request's body has not arrived, if there is plenty of room for one.
    pub(super) fn try_new_early(
        scheduler: &Arc<Scheduler>,
        metrics: &Arc<Metrics>,
        claim: Claim,
    ) -> Option<Self> {
        scheduler.try_start_early(claim).then(|| Self::new(scheduler, metrics, claim))
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the instance has a place. An instance whose permit has [ended](Permit::end) gets none.
    pub(super) fn poll_place(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut seat = self.seat();
        if let Seat::Waiting(memory) = *seat {
            *seat = Seat::Asking(memory, self.scheduler.resume(self.claim, memory));
        }
        match &*seat {
            Seat::Computing => return Poll::Ready(()),
            Seat::Asking(_, turn) => ready!(turn.poll(context)),
            Seat::Waiting(_) | Seat::Ended => return Poll::Pending,
        }
        *seat = Seat::Computing;
        self.metrics.waiting.dec();
        Poll::Ready(())
    }

    /// Gives the place back until the instance computes again. It has `linear_memory` bytes meanwhile.
    pub(super) fn give_place_back(&self, linear_memory: u64) {
        let mut seat = self.seat();
        if let Seat::Computing = *seat {
            let memory = linear_memory + OVERHEAD_BYTES;
            *seat = Seat::Waiting(memory);
            self.metrics.waiting.inc();
            self.scheduler.pause(self.claim, memory);
        }
    }

    /// Whether the instance has a place.
    pub(super) fn has_place(&self) -> bool {
        matches!(*self.seat(), Seat::Computing)
    }

    /// Gives everything back.
    pub(super) fn end(&self) {
        let ended = std::mem::replace(&mut *self.seat(), Seat::Ended);
        match &ended {
            Seat::Computing => self.scheduler.end_computing(self.claim),
            Seat::Waiting(memory) => self.scheduler.end_waiting(self.claim, *memory, None),
            Seat::Asking(memory, turn) => {
                self.scheduler.end_waiting(self.claim, *memory, Some(turn));
            }
            Seat::Ended => return,
        }
        self.metrics.instances.dec();
        if !matches!(ended, Seat::Computing) {
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
    claim: Claim,
    /// `None` once the permit has been handed out.
    turn: Option<Arc<Turn>>,
}

impl<'a> Starting<'a> {
    /// Lines up for the start of an instance.
    pub(super) fn new(
        scheduler: &'a Arc<Scheduler>,
        metrics: &'a Arc<Metrics>,
        claim: Claim,
    ) -> Self {
        Self { scheduler, metrics, claim, turn: Some(scheduler.start(claim)) }
    }
}

impl Future for Starting<'_> {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit> {
        let Some(turn) = &self.turn else { return Poll::Pending };
        ready!(turn.poll(context));
        self.turn = None;
        Poll::Ready(Permit::new(self.scheduler, self.metrics, self.claim))
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            self.scheduler.abandon_start(self.claim, turn);
        }
    }
}
