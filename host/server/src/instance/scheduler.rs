//! Decides which instances start and which compute: an instance that computes holds a CPU slot, and memory
//! bounds how many others may wait.
//!
//! An instance that computes may grow to [`Limits::instance_memory`]. One that waits holds only the memory that it has
//! taken, and all of them together should hold no more than [`Limits::waiting_memory`]. If they hold more, fewer
//! instances compute at once, so that the sum stays within what [`Limits::max_memory`] says. Instances that other
//! instances call are not in this sum: an instance must never wait for memory that its own caller holds, which would be
//! a deadlock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use spotter_config::Limits;
use spotter_config::limits::MAX_CALL_DEPTH;

/// The depths of calls between instances: a client's request is at depth 0.
const CALL_DEPTHS: usize = MAX_CALL_DEPTH as usize + 1;

/// Hands out CPU slots.
pub(super) struct Scheduler {
    capacity: Capacity,
    state: Mutex<State>,
}

/// How much there is to hand out. It does not change while the server runs.
struct Capacity {
    slots: usize,
    /// The instances that may exist at once, by depth.
    instances: [usize; CALL_DEPTHS],
    instance_memory: u64,
    waiting_memory: u64,
    /// Each component's index, by its id.
    indices: BTreeMap<String, usize>,
    /// The instances of each component that may exist at once at each depth.
    component_instances: Vec<usize>,
    /// What the waiting instances of one component may hold, in bytes. While they hold more, no further one of it
    /// starts.
    component_waiting_memory: u64,
}

#[derive(Default)]
struct State {
    computing: usize,
    /// The instances that exist, by depth.
    instances: [usize; CALL_DEPTHS],
    /// What the instances that wait hold, in bytes.
    waiting_memory: u64,
    components: Vec<ComponentUsage>,
    /// Clients' requests that have no instance yet.
    starting: VecDeque<QueueEntry>,
    /// Instances that want to compute again, and those that other instances call.
    resuming: VecDeque<QueueEntry>,
    /// Whether the last slot went to one of `resuming`: the two queues take turns.
    resuming_was_last: bool,
}

/// What the instances of one component hold.
#[derive(Clone, Default)]
struct ComponentUsage {
    instances: [usize; CALL_DEPTHS],
    waiting_memory: u64,
    /// The most that one of them has held while it waited, in bytes.
    peak_waiting_memory: u64,
    /// Whether one that has started early computes still, so that its memory is not counted yet.
    is_starting_early: bool,
}

/// The component of an instance, and its depth of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InstanceKey {
    component: usize,
    depth: usize,
}

/// What a slot is requested for.
#[derive(Clone, Copy, Debug)]
enum SlotRequest {
    Start,
    /// The instance holds this much memory, in bytes.
    Resume(u64),
}

struct QueueEntry {
    key: InstanceKey,
    request: SlotRequest,
    waiter: Arc<Waiter>,
}

/// Is woken when its entry gets a slot.
#[derive(Default)]
pub(super) struct Waiter {
    /// Only set and read while the state is locked, except by [`Waiter::poll`].
    is_granted: AtomicBool,
    waker: AtomicWaker,
}

impl Waiter {
    /// Waits until the slot is granted.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.is_granted.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Capacity {
    /// `components` are the ids, each with the number of instances that its manifest allows.
    fn new(limits: &Limits, components: &BTreeMap<String, Option<usize>>) -> Self {
        let all = limits.max_instances;
        // Of several components, none can take everything.
        let (default, component_waiting_memory) = match components.len() {
            0 | 1 => (all, u64::MAX),
            _ => ((all / 2).max(1), limits.waiting_memory / 2),
        };
        let mut instances = [limits.called_instances(); CALL_DEPTHS];
        instances[0] = all;
        Self {
            slots: limits.instances,
            instances,
            instance_memory: limits.instance_memory,
            waiting_memory: limits.waiting_memory,
            indices: components.keys().cloned().zip(0..).collect(),
            component_instances: components.values().map(|own| own.unwrap_or(default)).collect(),
            component_waiting_memory,
        }
    }
}

impl State {
    fn admits(&self, request: SlotRequest, key: InstanceKey, capacity: &Capacity) -> bool {
        if self.computing >= capacity.slots {
            return false;
        }
        match request {
            SlotRequest::Start => {
                let held = &self.components[key.component];
                self.instances[key.depth] < capacity.instances[key.depth]
                    && held.instances[key.depth] < capacity.component_instances[key.component]
                    && held.waiting_memory <= capacity.component_waiting_memory
                    && (key.depth > 0 || self.fits_in_memory(0, capacity))
            }
            // One always computes, so that those that wait end sometime and free their memory.
            SlotRequest::Resume(own) => {
                key.depth > 0 || self.computing == 0 || self.fits_in_memory(own, capacity)
            }
        }
    }

    /// Whether another instance, which holds `own` bytes now, may grow to its limit.
    fn fits_in_memory(&self, own: u64, capacity: &Capacity) -> bool {
        let bytes_of = |instances: usize| capacity.instance_memory.saturating_mul(instances as u64);
        let held =
            bytes_of(self.computing + 1).saturating_add(self.waiting_memory.saturating_sub(own));
        held <= bytes_of(capacity.slots).saturating_add(capacity.waiting_memory)
    }

    fn grant(&mut self, request: SlotRequest, key: InstanceKey) {
        self.computing += 1;
        match request {
            SlotRequest::Start => {
                self.instances[key.depth] += 1;
                self.components[key.component].instances[key.depth] += 1;
            }
            SlotRequest::Resume(memory) => self.release_memory(key, memory),
        }
    }

    fn end(&mut self, key: InstanceKey) {
        self.instances[key.depth] -= 1;
        self.components[key.component].instances[key.depth] -= 1;
    }

    fn hold_memory(&mut self, key: InstanceKey, bytes: u64) {
        if key.depth == 0 {
            let held = &mut self.components[key.component];
            held.waiting_memory += bytes;
            held.peak_waiting_memory = held.peak_waiting_memory.max(bytes);
            self.waiting_memory += bytes;
        }
    }

    fn release_memory(&mut self, key: InstanceKey, bytes: u64) {
        if key.depth == 0 {
            self.waiting_memory -= bytes;
            self.components[key.component].waiting_memory -= bytes;
        }
    }

    /// Gives free slots to the waiters.
    fn grant_waiting(&mut self, capacity: &Capacity) {
        while let Some(QueueEntry { key, request, waiter }) = self.pop_next(capacity) {
            self.grant(request, key);
            waiter.is_granted.store(true, Ordering::Release);
            waiter.waker.wake();
        }
    }

    /// The first entry that may have a slot now. The two queues take turns.
    fn pop_next(&mut self, capacity: &Capacity) -> Option<QueueEntry> {
        let first = |queue: &VecDeque<QueueEntry>| {
            queue.iter().position(|entry| self.admits(entry.request, entry.key, capacity))
        };
        let (starting, resuming) = (first(&self.starting), first(&self.resuming));
        let takes_resuming = resuming.is_some() && (starting.is_none() || !self.resuming_was_last);
        let next = if takes_resuming {
            self.resuming.remove(resuming?)
        } else {
            self.starting.remove(starting?)
        };
        self.resuming_was_last = takes_resuming;
        next
    }

    fn queue(&mut self, request: SlotRequest, key: InstanceKey) -> &mut VecDeque<QueueEntry> {
        match request {
            SlotRequest::Start if key.depth == 0 => &mut self.starting,
            SlotRequest::Start | SlotRequest::Resume(_) => &mut self.resuming,
        }
    }

    /// Removes a waiter's entry from its queue.
    fn remove(&mut self, waiter: &Arc<Waiter>) {
        for queue in [&mut self.starting, &mut self.resuming] {
            queue.retain(|entry| !Arc::ptr_eq(&entry.waiter, waiter));
        }
    }
}

impl Scheduler {
    /// `components` are the ids, each with the number of instances that its manifest allows.
    pub(crate) fn new(limits: &Limits, components: &BTreeMap<String, Option<usize>>) -> Self {
        let held = vec![ComponentUsage::default(); components.len()];
        let state = State { components: held, ..State::default() };
        Self { capacity: Capacity::new(limits, components), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of this component's instances at this depth. `None` if there is no such component, or calls may not be
    /// so deep.
    pub(crate) fn key(&self, component: &str, hops: u32) -> Option<InstanceKey> {
        let depth = usize::try_from(hops).ok().filter(|depth| *depth < CALL_DEPTHS)?;
        Some(InstanceKey { component: *self.capacity.indices.get(component)?, depth })
    }

    /// Whether an instance could start at once.
    pub(super) fn could_start(&self, key: InstanceKey) -> bool {
        self.state().admits(SlotRequest::Start, key, &self.capacity)
    }

    /// How many such instances wait to start.
    pub(super) fn queue_len(&self, key: InstanceKey) -> usize {
        let is_such =
            |entry: &&QueueEntry| entry.key == key && matches!(entry.request, SlotRequest::Start);
        let mut state = self.state();
        state.queue(SlotRequest::Start, key).iter().filter(is_such).count()
    }

    /// Starts an instance, if it may start at once.
    pub(super) fn try_start(&self, key: InstanceKey) -> bool {
        let mut state = self.state();
        let may = state.admits(SlotRequest::Start, key, &self.capacity);
        if may {
            state.grant(SlotRequest::Start, key);
        }
        may
    }

    /// Starts an instance that will soon wait, for the body of its request. Leaves half of the memory for waiting
    /// instances to others, and half of the component's part to its requests whose bodies are complete, assuming that
    /// this one will hold as much as its component's others have held. One of a component starts so at a time, until
    /// [`Scheduler::settle_early`].
    pub(super) fn try_start_early(&self, key: InstanceKey) -> bool {
        let mut state = self.state();
        let own = &state.components[key.component];
        let may = !own.is_starting_early
            && state.waiting_memory + own.peak_waiting_memory <= self.capacity.waiting_memory / 2
            && own.waiting_memory + own.peak_waiting_memory
                <= self.capacity.component_waiting_memory / 2
            && state.admits(SlotRequest::Start, key, &self.capacity);
        if may {
            state.components[key.component].is_starting_early = true;
            state.grant(SlotRequest::Start, key);
        }
        may
    }

    /// An instance that started early has paused for the first time, or has ended.
    pub(super) fn settle_early(&self, key: InstanceKey) {
        self.state().components[key.component].is_starting_early = false;
    }

    /// Starts an instance once the waiter is granted its slot, which may be at once.
    pub(crate) fn start(&self, key: InstanceKey) -> Arc<Waiter> {
        self.enqueue(SlotRequest::Start, key)
    }

    /// An instance that computes waits from now on, and keeps `memory` bytes.
    pub(crate) fn pause(&self, key: InstanceKey, memory: u64) {
        let mut state = self.state();
        state.computing -= 1;
        state.hold_memory(key, memory);
        state.grant_waiting(&self.capacity);
    }

    /// An instance that waits, and holds `memory` bytes, computes again once the waiter is granted its slot, which may
    /// be at once.
    pub(super) fn resume(&self, key: InstanceKey, memory: u64) -> Arc<Waiter> {
        self.enqueue(SlotRequest::Resume(memory), key)
    }

    fn enqueue(&self, request: SlotRequest, key: InstanceKey) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter::default());
        let mut state = self.state();
        if state.admits(request, key, &self.capacity) {
            state.grant(request, key);
            waiter.is_granted.store(true, Ordering::Release);
        } else {
            let entry = QueueEntry { key, request, waiter: Arc::clone(&waiter) };
            state.queue(request, key).push_back(entry);
        }
        waiter
    }

    /// An instance that computes ends.
    pub(super) fn end_computing(&self, key: InstanceKey) {
        let mut state = self.state();
        state.computing -= 1;
        state.end(key);
        state.grant_waiting(&self.capacity);
    }

    /// An instance that waits, and holds `memory` bytes, ends. `waiter` is what it got from [`Scheduler::resume`], if
    /// it wanted to compute again.
    pub(super) fn end_waiting(&self, key: InstanceKey, memory: u64, waiter: Option<&Arc<Waiter>>) {
        let mut state = self.state();
        if waiter.is_some_and(|waiter| waiter.is_granted.load(Ordering::Acquire)) {
            state.computing -= 1;
        } else {
            if let Some(waiter) = waiter {
                state.remove(waiter);
            }
            state.release_memory(key, memory);
        }
        state.end(key);
        state.grant_waiting(&self.capacity);
    }

    /// Stops waiting for the start of an instance, which may have been granted meanwhile.
    pub(super) fn cancel_start(&self, key: InstanceKey, waiter: &Arc<Waiter>) {
        let mut state = self.state();
        if waiter.is_granted.load(Ordering::Acquire) {
            state.computing -= 1;
            state.end(key);
        } else {
            state.remove(waiter);
        }
        state.grant_waiting(&self.capacity);
    }
}

#[cfg(test)]
mod tests;
