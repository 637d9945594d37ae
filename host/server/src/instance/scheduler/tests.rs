//! Tests of the scheduler, without instances.

use super::{Arc, BTreeMap, InstanceKey, Ordering, Scheduler, Waiter};
use spotter_config::Limits;

const MIB: u64 = 1 << 20;

fn scheduler(instances: usize, max_instances: usize, waiting_memory: u64) -> Scheduler {
    let memory = Limits { instance_memory: 100 * MIB, waiting_memory, ..Limits::default() };
    let components = [("one", None), ("two", None), ("small", Some(1))];
    let components = components.map(|(id, share)| (id.to_owned(), share));
    let limits = Limits { instances, max_instances, ..memory };
    Scheduler::new(&limits, &BTreeMap::from(components))
}

fn is_granted(waiter: &Arc<Waiter>) -> bool {
    waiter.is_granted.load(Ordering::Relaxed)
}

fn keys(scheduler: &Scheduler) -> (InstanceKey, InstanceKey) {
    (scheduler.key("one", 0).unwrap(), scheduler.key("two", 0).unwrap())
}

#[test]
fn an_instance_that_waits_makes_room_for_one_that_computes() {
    let scheduler = scheduler(1, 8, 1000 * MIB);
    let (one, _) = keys(&scheduler);
    assert!(scheduler.try_start(one) && !scheduler.try_start(one));
    let second = scheduler.start(one);
    assert!(!is_granted(&second));
    scheduler.pause(one, MIB);
    assert!(is_granted(&second));
    let first = scheduler.resume(one, MIB);
    assert!(!is_granted(&first));
    scheduler.end_computing(one);
    assert!(is_granted(&first));
    scheduler.end_computing(one);
    let state = scheduler.state();
    assert_eq!((state.computing, state.instances[0], state.waiting_memory), (0, 0, 0));
}

#[test]
fn instances_that_hold_more_than_they_should_end_one_after_the_other() {
    let scheduler = scheduler(3, 8, 0);
    let (one, _) = keys(&scheduler);
    for _ in 0..3 {
        assert!(scheduler.try_start(one));
    }
    // As when they have grown to their limit, and the host's overhead is added.
    (0..3).for_each(|_| scheduler.pause(one, 101 * MIB));
    let waiters = [(); 3].map(|()| scheduler.resume(one, 101 * MIB));
    let granted = || waiters.iter().filter(|waiter| is_granted(waiter)).count();
    assert_eq!(granted(), 1);
    scheduler.end_computing(one);
    assert!(granted() > 1);
}

#[test]
fn those_that_resume_and_those_that_start_take_turns() {
    let scheduler = scheduler(1, 8, 1000 * MIB);
    let (one, _) = keys(&scheduler);
    for _ in 0..2 {
        assert!(scheduler.try_start(one));
        scheduler.pause(one, MIB);
    }
    assert!(scheduler.try_start(one));
    let starts = [(); 2].map(|()| scheduler.start(one));
    let resumes = [(); 2].map(|()| scheduler.resume(one, MIB));
    let mut order = Vec::new();
    for _ in 0..4 {
        scheduler.end_computing(one);
        let granted =
            |waiters: &[Arc<Waiter>]| waiters.iter().filter(|waiter| is_granted(waiter)).count();
        order.push((granted(&starts), granted(&resumes)));
    }
    assert_eq!(order, [(0, 1), (1, 1), (1, 2), (2, 2)]);
}

#[test]
fn no_component_takes_all_and_the_manifest_may_say_less() {
    let scheduler = scheduler(8, 4, 1000 * MIB);
    let (one, two) = keys(&scheduler);
    let small = scheduler.key("small", 0).unwrap();
    assert!(scheduler.try_start(one) && scheduler.try_start(one) && !scheduler.try_start(one));
    assert!(scheduler.try_start(small) && !scheduler.try_start(small));
    assert!(scheduler.try_start(two) && !scheduler.try_start(two));
    // Those that instances call are not among the four.
    assert!(scheduler.try_start(scheduler.key("small", 1).unwrap()));
    assert_eq!(scheduler.key("three", 0), None);
    assert_eq!(scheduler.key("one", 9), None);
}

#[test]
fn what_waits_and_what_computes_stay_within_the_memory() {
    // Two that compute, and 150 MiB for those that wait: 350 MiB.
    let scheduler = scheduler(2, 8, 150 * MIB);
    let (one, two) = keys(&scheduler);
    assert!(scheduler.try_start(one) && scheduler.try_start(one));
    scheduler.pause(one, 80 * MIB);
    scheduler.pause(one, 80 * MIB);
    // More than half of what may wait is the first component's.
    assert!(!scheduler.could_start(one));
    assert!(scheduler.try_start(two));
    // 160 MiB wait and one computes: a second would not fit.
    assert!(!scheduler.could_start(two));
    let start = scheduler.start(two);
    // But one of those that wait may resume.
    assert!(is_granted(&scheduler.resume(one, 80 * MIB)));
    scheduler.end_computing(one);
    assert!(is_granted(&start));
}

#[test]
fn instances_whose_bodies_have_not_arrived_leave_memory_to_others() {
    let scheduler = scheduler(2, 64, 150 * MIB);
    let (one, _) = keys(&scheduler);
    let mut early = 0;
    while scheduler.try_start_early(one) {
        early += 1;
        // How much the first one will hold is not known yet.
        assert!(!scheduler.try_start_early(one));
        scheduler.pause(one, 18 * MIB);
        scheduler.settle_early(one);
    }
    // Half of the component's half of 150 MiB.
    assert_eq!(early, 2);
    assert!(scheduler.could_start(one));
    // However many bodies arrive slowly, even if each instance holds more than the component's quarter.
    let scheduler = self::scheduler(2, 64, 150 * MIB);
    assert!(scheduler.try_start_early(one));
    scheduler.pause(one, 60 * MIB);
    scheduler.settle_early(one);
    assert!(!scheduler.try_start_early(one) && scheduler.could_start(one));
}

#[test]
fn a_request_that_gives_up_leaves_nothing_behind() {
    let scheduler = scheduler(1, 8, 1000 * MIB);
    let (one, two) = keys(&scheduler);
    assert!(scheduler.try_start(one));
    let (given_up, other) = (scheduler.start(one), scheduler.start(two));
    assert_eq!(scheduler.queue_len(one), 1);
    scheduler.cancel_start(one, &given_up);
    assert_eq!(scheduler.queue_len(one), 0);
    scheduler.end_computing(one);
    assert!(is_granted(&other));
    // It was allowed to start, and gives up all the same.
    scheduler.cancel_start(two, &other);
    assert_eq!(scheduler.state().computing, 0);
    // One that waits and wants to resume ends.
    assert!(scheduler.try_start(one));
    scheduler.pause(one, MIB);
    assert!(scheduler.try_start(two));
    let resumed = scheduler.resume(one, MIB);
    scheduler.end_waiting(one, MIB, Some(&resumed));
    scheduler.end_computing(two);
    let state = scheduler.state();
    assert_eq!((state.computing, state.instances[0], state.waiting_memory), (0, 0, 0));
    assert!(state.starting.is_empty() && state.resuming.is_empty());
}
