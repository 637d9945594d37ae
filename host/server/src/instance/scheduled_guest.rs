//! Polls a guest only while it holds a CPU slot, and releases the slot while the guest waits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep};

use super::permit::Permit;
use spotter_runtime::limits::usage::{Metered, Usage};

/// How long a guest may wait and keep its slot: a reply's chunk is taken, or a local file is read, sooner than another
/// instance could start.
const SHORT_WAIT_TIMEOUT: Duration = Duration::from_millis(2);
/// How long the short waits of one guest may take in all. After that, every wait releases the slot.
const SHORT_WAIT_BUDGET: Duration = Duration::from_millis(20);

/// A guest that holds a slot whenever it computes.
pub(super) struct ScheduledGuest<F> {
    guest: Metered<F>,
    permit: Arc<Permit>,
    usage: Arc<Usage>,
    wake_flag: Arc<WakeFlag>,
    waker: Waker,
    /// While the guest waits and still holds its slot: since when, and the timer that ends the short wait.
    short_wait: Option<(Instant, Pin<Box<Sleep>>)>,
    short_wait_budget: Duration,
}

/// Whether the guest was woken. The task that runs it is woken for other reasons too.
struct WakeFlag {
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> ScheduledGuest<F> {
    pub(crate) fn new(guest: Metered<F>, permit: Arc<Permit>, usage: Arc<Usage>) -> Self {
        let wake_flag =
            Arc::new(WakeFlag { is_set: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&wake_flag));
        let short_wait_budget = SHORT_WAIT_BUDGET;
        Self { guest, permit, usage, wake_flag, waker, short_wait: None, short_wait_budget }
    }

    /// Releases the slot once a wait is no longer a short one.
    fn wait(&mut self, context: &mut Context<'_>) {
        if !self.permit.has_slot() {
            return;
        }
        if !self.short_wait_budget.is_zero() {
            let end = || {
                let now = Instant::now();
                let wait = SHORT_WAIT_TIMEOUT.min(self.short_wait_budget);
                (now, Box::pin(tokio::time::sleep_until(now + wait)))
            };
            let (since, sleep) = self.short_wait.get_or_insert_with(end);
            if sleep.as_mut().poll(context).is_pending() {
                return;
            }
            self.short_wait_budget = self.short_wait_budget.saturating_sub(since.elapsed());
            self.short_wait = None;
        }
        self.permit.release_slot(self.usage.memory_peak_bytes());
    }
}

impl<F: Future> Future for ScheduledGuest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.wake_flag.task.register(context.waker());
        if self.wake_flag.is_set.load(Ordering::Acquire) {
            ready!(self.permit.poll_slot(context));
            if let Some((since, _)) = self.short_wait.take() {
                self.short_wait_budget = self.short_wait_budget.saturating_sub(since.elapsed());
            }
            self.wake_flag.is_set.store(false, Ordering::Release);
            let waker = self.waker.clone();
            let polled = Pin::new(&mut self.guest).poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                return polled;
            }
            // A guest that only yields is woken at once. It computes on, and keeps its slot.
            if self.wake_flag.is_set.load(Ordering::Acquire) {
                return Poll::Pending;
            }
        }
        self.wait(context);
        Poll::Pending
    }
}
