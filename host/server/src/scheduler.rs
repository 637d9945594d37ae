//! Decides which instances start and which compute: a place at the processor is for one that computes, and memory
//! bounds how many may wait beside those.
//!
//! An instance that computes may grow to [`Limits::instance_memory`]. One that waits holds only the memory that it has
//! taken, and all of them together should hold no more than [`Limits::waiting_memory`]. If they do, fewer instances
//! compute at once, so that the sum stays within what [`Limits::memory`] says. Instances that other instances call are
//! not in this sum, so that none waits for memory of the one that waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use spotter_config::Limits;
use spotter_config::limits::MAX_HOPS;

/// The depths of calls between instances: a client's request is at depth 0.
const DEPTHS: usize = MAX_HOPS as usize + 1;

/// Hands out places at the processor.
pub(super) struct Scheduler {
    rules: Rules,
    state: Mutex<State>,
}

/// What does not change while the server runs.
struct Rules {
    places: usize,
    /// The instances that may exist at once, by depth.
    instances: [usize; DEPTHS],
    instance_memory: u64,
    waiting_memory: u64,
    /// Each component's number, by its id.
    numbers: BTreeMap<String, usize>,
    /// The instances of each component that may exist at once at each depth.
    shares: Vec<usize>,
    /// What the waiting instances of one component may hold before no further one of it starts.
    share_of_memory: u64,
}

#[derive(Default)]
struct State {
    computing: usize,
    /// The instances that exist, by depth.
    instances: [usize; DEPTHS],
    /// What the instances that wait hold, in bytes.
    waiting_memory: u64,
    components: Vec<Held>,
    /// Clients' requests that have no instance yet.
    fresh: VecDeque<Ticket>,
    /// Instances that want to compute again, and those that other instances call.
    begun: VecDeque<Ticket>,
    /// Whether the last place went to one of `begun`: the two queues take turns.
    begun_was_last: bool,
}

/// What the instances of one component hold.
#[derive(Clone, Default)]
struct Held {
    instances: [usize; DEPTHS],
    waiting_memory: u64,
    /// The most that one of them has held while it waited.
    most_memory: u64,
}

/// Whose instance it is, and at which depth of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    component: usize,
    depth: usize,
}

/// What a place is wanted for.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Start,
    /// The instance holds this much memory, in bytes.
    Resume(u64),
}

struct Ticket {
    claim: Claim,
    wish: Wish,
    turn: Arc<Turn>,
}

/// Is told when its ticket gets a place.
#[derive(Default)]
pub(super) struct Turn {
    /// Only set and read while the state is locked, except by [`Turn::poll`].
    has_come: AtomicBool,
    waker: AtomicWaker,
}

impl Turn {
    /// Waits until the turn has come.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        if self.has_come.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Rules {
    /// `components` are the ids, each with the number of instances that its manifest allows.
    fn new(limits: &Limits, components: &BTreeMap<String, Option<usize>>) -> Self {
        let all = limits.max_instances;
        // Of several components, none can take everything.
        let (default, share_of_memory) = match components.len() {
            0 | 1 => (all, u64::MAX),
            _ => ((all / 2).max(1), limits.waiting_memory / 2),
        };
        let mut instances = [limits.called_instances(); DEPTHS];
        instances[0] = all;
        Self {
            places: limits.instances,
            instances,
            instance_memory: limits.instance_memory,
            waiting_memory: limits.waiting_memory,
            numbers: components.keys().cloned().zip(0..).collect(),
            shares: components.values().map(|own| own.unwrap_or(default)).collect(),
            share_of_memory,
        }
    }
}

impl State {
    fn may(&self, wish: Wish, claim: Claim, rules: &Rules) -> bool {
        if self.computing >= rules.places {
            return false;
        }
        match wish {
            Wish::Start => {
                let held = &self.components[claim.component];
                self.instances[claim.depth] < rules.instances[claim.depth]
                    && held.instances[claim.depth] < rules.shares[claim.component]
                    && held.waiting_memory <= rules.share_of_memory
                    && (claim.depth > 0 || self.has_memory(0, rules))
            }
            Wish::Resume(own) => claim.depth > 0 || self.has_memory(own, rules),
        }
    }

    /// Whether another instance, which holds `own` bytes now, may grow to its limit.
    fn has_memory(&self, own: u64, rules: &Rules) -> bool {
        let of = |instances: usize| rules.instance_memory.saturating_mul(instances as u64);
        let held = of(self.computing + 1).saturating_add(self.waiting_memory.saturating_sub(own));
        held <= of(rules.places).saturating_add(rules.waiting_memory)
    }

    fn grant(&mut self, wish: Wish, claim: Claim) {
        self.computing += 1;
        match wish {
            Wish::Start => {
                self.instances[claim.depth] += 1;
                self.components[claim.component].instances[claim.depth] += 1;
            }
            Wish::Resume(memory) => self.release_memory(claim, memory),
        }
    }

    fn end(&mut self, claim: Claim) {
        self.instances[claim.depth] -= 1;
        self.components[claim.component].instances[claim.depth] -= 1;
    }

    fn hold_memory(&mut self, claim: Claim, bytes: u64) {
        if claim.depth == 0 {
            let held = &mut self.components[claim.component];
            held.waiting_memory += bytes;
            held.most_memory = held.most_memory.max(bytes);
            self.waiting_memory += bytes;
        }
    }

    fn release_memory(&mut self, claim: Claim, bytes: u64) {
        if claim.depth == 0 {
            self.waiting_memory -= bytes;
            self.components[claim.component].waiting_memory -= bytes;
        }
    }

    /// Gives free places to those that wait for one.
    fn grant_next(&mut self, rules: &Rules) {
        while let Some(Ticket { claim, wish, turn }) = self.take_next(rules) {
            self.grant(wish, claim);
            turn.has_come.store(true, Ordering::Release);
            turn.waker.wake();
        }
    }

    /// The first that may have a place now, from each queue in turn.
    fn take_next(&mut self, rules: &Rules) -> Option<Ticket> {
        let first = |queue: &VecDeque<Ticket>| {
            queue.iter().position(|ticket| self.may(ticket.wish, ticket.claim, rules))
        };
        let (fresh, begun) = (first(&self.fresh), first(&self.begun));
        let takes_begun = begun.is_some() && (fresh.is_none() || !self.begun_was_last);
        let taken = if takes_begun { self.begun.remove(begun?) } else { self.fresh.remove(fresh?) };
        self.begun_was_last = takes_begun;
        taken
    }

    fn queue(&mut self, wish: Wish, claim: Claim) -> &mut VecDeque<Ticket> {
        match wish {
            Wish::Start if claim.depth == 0 => &mut self.fresh,
            Wish::Start | Wish::Resume(_) => &mut self.begun,
        }
    }

    /// Takes a ticket out of its queue.
    fn withdraw(&mut self, turn: &Arc<Turn>) {
        for queue in [&mut self.fresh, &mut self.begun] {
            queue.retain(|ticket| !Arc::ptr_eq(&ticket.turn, turn));
        }
    }
}

impl Scheduler {
    /// `components` are the ids, each with the number of instances that its manifest allows.
    pub(super) fn new(limits: &Limits, components: &BTreeMap<String, Option<usize>>) -> Self {
        let held = vec![Held::default(); components.len()];
        let state = State { components: held, ..State::default() };
        Self { rules: Rules::new(limits, components), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A claim of this component's. `None` if there is none of this id, or calls are not allowed to be this deep.
    pub(super) fn claim(&self, component: &str, hops: u32) -> Option<Claim> {
        let depth = usize::try_from(hops).ok().filter(|depth| *depth < DEPTHS)?;
        Some(Claim { component: *self.rules.numbers.get(component)?, depth })
    }

    /// Whether an instance could start at once.
    pub(super) fn could_start(&self, claim: Claim) -> bool {
        self.state().may(Wish::Start, claim, &self.rules)
    }

    /// How many such instances wait for their start.
    pub(super) fn lined_up(&self, claim: Claim) -> usize {
        let is_such =
            |ticket: &&Ticket| ticket.claim == claim && matches!(ticket.wish, Wish::Start);
        let mut state = self.state();
        state.queue(Wish::Start, claim).iter().filter(is_such).count()
    }

    /// Starts an instance, if it may start at once.
    pub(super) fn try_start(&self, claim: Claim) -> bool {
        let mut state = self.state();
        let may = state.may(Wish::Start, claim, &self.rules);
        if may {
            state.grant(Wish::Start, claim);
        }
        may
    }

    /// Starts an instance that will soon wait, for the body of its request. Leaves half of the memory for instances that
    /// wait to others, if this one will hold what its component's others have held.
    pub(super) fn try_start_early(&self, claim: Claim) -> bool {
        let mut state = self.state();
        let memory = state.waiting_memory + state.components[claim.component].most_memory;
        let may =
            memory <= self.rules.waiting_memory / 2 && state.may(Wish::Start, claim, &self.rules);
        if may {
            state.grant(Wish::Start, claim);
        }
        may
    }

    /// Starts an instance when its turn comes, which it may already have.
    pub(super) fn start(&self, claim: Claim) -> Arc<Turn> {
        self.line_up(Wish::Start, claim)
    }

    /// An instance that computes waits from now on, and keeps `memory` bytes.
    pub(super) fn pause(&self, claim: Claim, memory: u64) {
        let mut state = self.state();
        state.computing -= 1;
        state.hold_memory(claim, memory);
        state.grant_next(&self.rules);
    }

    /// An instance that waits, and holds `memory` bytes, computes again when its turn comes, which it may already have.
    pub(super) fn resume(&self, claim: Claim, memory: u64) -> Arc<Turn> {
        self.line_up(Wish::Resume(memory), claim)
    }

    fn line_up(&self, wish: Wish, claim: Claim) -> Arc<Turn> {
        let turn = Arc::new(Turn::default());
        let mut state = self.state();
        if state.may(wish, claim, &self.rules) {
            state.grant(wish, claim);
            turn.has_come.store(true, Ordering::Release);
        } else {
            let ticket = Ticket { claim, wish, turn: Arc::clone(&turn) };
            state.queue(wish, claim).push_back(ticket);
        }
        turn
    }

    /// An instance that computes ends.
    pub(super) fn end_computing(&self, claim: Claim) {
        let mut state = self.state();
        state.computing -= 1;
        state.end(claim);
        state.grant_next(&self.rules);
    }

    /// An instance that waits, and holds `memory` bytes, ends. `turn` is its turn to compute, if it asked for one.
    pub(super) fn end_waiting(&self, claim: Claim, memory: u64, turn: Option<&Arc<Turn>>) {
        let mut state = self.state();
        if turn.is_some_and(|turn| turn.has_come.load(Ordering::Acquire)) {
            state.computing -= 1;
        } else {
            if let Some(turn) = turn {
                state.withdraw(turn);
            }
            state.release_memory(claim, memory);
        }
        state.end(claim);
        state.grant_next(&self.rules);
    }

    /// Gives up waiting for the start of an instance, which may have been allowed meanwhile.
    pub(super) fn abandon_start(&self, claim: Claim, turn: &Arc<Turn>) {
        let mut state = self.state();
        if turn.has_come.load(Ordering::Acquire) {
            state.computing -= 1;
            state.end(claim);
        } else {
            state.withdraw(turn);
        }
        state.grant_next(&self.rules);
    }
}

#[cfg(test)]
mod tests;
