//! A simulation of one day: how many nodes are on, and what power they draw, for each placement of pods.
//!
//! Every five minutes the autoscaler asks for as many pods as the load needs. Pods are placed and removed one at a
//! time, by the rules of the real programs:
//!
//! - a pod is placed on the emptiest node (the scheduler's default) or on the fullest one that has room
//!   (`MostAllocated`, k8s/placement);
//! - a pod is removed from the node that runs most of them, as a ReplicaSet does
//!   (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-down>);
//! - with a descheduler, nodes that are less than half full are emptied into others that have room
//!   (<https://github.com/kubernetes-sigs/descheduler>, `HighNodeUtilization`).
//!
//! A node draws the power that SPECpower_ssj2008 gives for an HP ProLiant ML110 G5 at its load, as in A. Beloglazov
//! and R. Buyya, *Optimal online deterministic algorithms and adaptive heuristics for energy and performance
//! efficient dynamic consolidation of virtual machines in cloud data centers*, Concurrency and Computation
//! 24 (2012), table 2, interpolated linearly. An empty node is switched off, and draws nothing.

/// Watts at 0 %, 10 % and so on up to 100 % of a node's load.
const NODE_POWER_WATTS: [f64; 11] =
    [93.7, 97.0, 101.0, 105.0, 110.0, 116.0, 121.0, 125.0, 129.0, 133.0, 135.0];
/// Pods that a node has room for.
const PODS_PER_NODE: usize = 8;
/// The number of nodes.
const NODE_COUNT: usize = 12;
/// Pods that the day's peak needs: three quarters of all that fit.
const PEAK_PODS: f64 = 72.0;
/// Steps of a day.
const STEPS_PER_DAY: usize = 288;
/// The load of a pod that the autoscaler aims at.
const TARGET_UTILIZATION: f64 = 0.8;

/// Where a scheduler places pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On the emptiest node.
    Spread,
    /// On the fullest node that has room.
    Pack,
    /// The same, and a descheduler moves them together as the load falls.
    PackAndMove,
}

/// The result of one day.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// The average number of nodes that are on.
    pub nodes: f64,
    pub kilowatt_hours: f64,
    /// Pods that were moved while they served.
    pub moved: usize,
}

/// The load at a time of the day, in pods at full load. It is lowest at four in the morning, at a fifth of the peak,
/// and highest at four in the afternoon.
fn load(step: usize) -> f64 {
    let hour = step as f64 * 24.0 / STEPS_PER_DAY as f64;
    let swing = (1.0 - ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos()) / 2.0;
    PEAK_PODS * TARGET_UTILIZATION * (0.2 + 0.8 * swing)
}

/// Simulates a day.
pub fn day(placement: Placement) -> Day {
    let mut nodes = [0_usize; NODE_COUNT];
    let mut day = Day { nodes: 0.0, kilowatt_hours: 0.0, moved: 0 };
    // The first day only brings the nodes into the state in which a day ends.
    for step in 0..2 * STEPS_PER_DAY {
        let load = load(step % STEPS_PER_DAY);
        let wanted =
            ((load / TARGET_UTILIZATION).ceil() as usize).clamp(2, NODE_COUNT * PODS_PER_NODE);
        while nodes.iter().sum::<usize>() < wanted {
            nodes[choose(&nodes, placement).expect("room")] += 1;
        }
        while nodes.iter().sum::<usize>() > wanted {
            // The node with the most pods loses one.
            let fullest = (0..NODE_COUNT).max_by_key(|node| nodes[*node]).expect("a node");
            nodes[fullest] -= 1;
        }
        let moved = if placement == Placement::PackAndMove { consolidate(&mut nodes) } else { 0 };
        if step >= STEPS_PER_DAY {
            let busy = load / wanted as f64 / PODS_PER_NODE as f64;
            day.moved += moved;
            day.nodes +=
                nodes.iter().filter(|pods| **pods > 0).count() as f64 / STEPS_PER_DAY as f64;
            let watts: f64 = nodes.iter().map(|pods| watts(*pods, busy)).sum();
            day.kilowatt_hours += watts * 24.0 / STEPS_PER_DAY as f64 / 1000.0;
        }
    }
    day
}

/// The node for one more pod, if there is room.
fn choose(nodes: &[usize], placement: Placement) -> Option<usize> {
    let with_room = (0..nodes.len()).filter(|node| nodes[*node] < PODS_PER_NODE);
    match placement {
        Placement::Spread => with_room.min_by_key(|node| nodes[*node]),
        Placement::Pack | Placement::PackAndMove => with_room.max_by_key(|node| nodes[*node]),
    }
}

/// Empties nodes that are less than half full, if the others have room. Returns how many pods were moved.
fn consolidate(nodes: &mut [usize]) -> usize {
    let mut moved = 0;
    loop {
        let sparse =
            (0..nodes.len()).filter(|node| nodes[*node] > 0 && nodes[*node] < PODS_PER_NODE / 2);
        let Some(from) = sparse.min_by_key(|node| nodes[*node]) else { return moved };
        let pods = nodes[from];
        let elsewhere = |node: usize| node != from && nodes[node] > 0;
        let room: usize = (0..nodes.len())
            .filter(|node| elsewhere(*node))
            .map(|node| PODS_PER_NODE - nodes[node])
            .sum();
        if room < pods {
            return moved;
        }
        nodes[from] = 0;
        for _ in 0..pods {
            let fullest = choose(nodes, Placement::Pack).expect("room");
            nodes[fullest] += 1;
        }
        moved += pods;
    }
}

/// The power that a node draws with this many pods, each of which takes the share `busy` of it.
fn watts(pods: usize, busy: f64) -> f64 {
    if pods == 0 {
        return 0.0;
    }
    let tenths = (pods as f64 * busy * 10.0).clamp(0.0, 10.0);
    let below = (tenths.floor() as usize).min(9);
    NODE_POWER_WATTS[below]
        + (NODE_POWER_WATTS[below + 1] - NODE_POWER_WATTS[below]) * (tenths - below as f64)
}
