//! Polls a guest only while it has a place at the processor, and gives the place back while the guest waits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep};

use super::permit::Permit;
use spotter_runtime::usage::{Metered, Usage};

/// How long a guest may wait without losing its place: a reply's chunk is taken, or a local file is read, sooner than
/// another instance could begin.
const SHORT_WAIT: Duration = Duration::from_millis(2);
/// How long the short waits of one guest may take in all. Then it gives its place back at each.
const SHORT_WAITS: Duration = Duration::from_millis(20);

/// A guest that has a place whenever it computes.
pub(super) struct Seated<F> {
    guest: Metered<F>,
    permit: Arc<Permit>,
    usage: Arc<Usage>,
    calls: Arc<Calls>,
    waker: Waker,
    /// While the guest waits and still has its place: since when, and the end of its patience.
    patience: Option<(Instant, Pin<Box<Sleep>>)>,
    short_waits: Duration,
}

/// Whether the guest wants to be polled. The task that runs it is woken for other reasons too.
struct Calls {
    is_called: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_called.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future> Seated<F> {
    pub(super) fn new(guest: Metered<F>, permit: Arc<Permit>, usage: Arc<Usage>) -> Self {
        let calls = Arc::new(Calls { is_called: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&calls));
        let short_waits = SHORT_WAITS;
        Self { guest, permit, usage, calls, waker, patience: None, short_waits }
    }

    /// Gives the place back once a wait is not a short one.
    fn wait(&mut self, context: &mut Context<'_>) {
        if !self.permit.has_place() {
            return;
        }
        if !self.short_waits.is_zero() {
            let end = || {
                let now = Instant::now();
                let wait = SHORT_WAIT.min(self.short_waits);
                (now, Box::pin(tokio::time::sleep_until(now + wait)))
            };
            let (since, sleep) = self.patience.get_or_insert_with(end);
            if sleep.as_mut().poll(context).is_pending() {
                return;
            }
            self.short_waits = self.short_waits.saturating_sub(since.elapsed());
            self.patience = None;
        }
        self.permit.give_place_back(self.usage.memory_peak_bytes());
    }
}

impl<F: Future> Future for Seated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.calls.task.register(context.waker());
        if self.calls.is_called.load(Ordering::Acquire) {
            ready!(self.permit.poll_place(context));
            if let Some((since, _)) = self.patience.take() {
                self.short_waits = self.short_waits.saturating_sub(since.elapsed());
            }
            self.calls.is_called.store(false, Ordering::Release);
            let waker = self.waker.clone();
            let polled = Pin::new(&mut self.guest).poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                return polled;
            }
            // A guest that only yields is called at once. It computes on, and keeps its place.
            if self.calls.is_called.load(Ordering::Acquire) {
                return Poll::Pending;
            }
        }
        self.wait(context);
        Poll::Pending
    }
}
