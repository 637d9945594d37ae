//! The steps that the autoscaler takes under load, by its documented algorithm, and the nodes that they need.

use serde_json::Value;
use spotter_tests::autoscaler::{Autoscaler, SYNC_SECONDS};
use spotter_tests::cluster::{Resources, room};
use spotter_tests::manifests::{combine, of_kind, render};

/// The detector, its autoscaler, and a cluster of equal nodes.
struct Cluster {
    objects: Vec<Value>,
    /// Cores of each node.
    cores: u64,
}

impl Cluster {
    fn container(&self) -> &Value {
        &of_kind(&self.objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// Cores that a pod requests.
    fn request(&self) -> f64 {
        Resources::of(&self.container()["resources"]["requests"]).cpu as f64 / 1000.0
    }

    /// Pods that one node has room for.
    fn places(&self) -> u64 {
        let overhead = &of_kind(&self.objects, "RuntimeClass")["overhead"]["podFixed"];
        let requests = Resources::of(&self.container()["resources"]["requests"]);
        requests.plus(Resources::of(overhead)).times_in(room(self.cores))
    }

    /// The part of its target that each of these pods uses, if all together need `load` cores. Each gets at most its
    /// limit, and its part of the node that it shares.
    fn ratio(&self, load: f64, replicas: u32) -> f64 {
        let limit = Resources::of(&self.container()["resources"]["limits"]).cpu as f64 / 1000.0;
        let neighbours = u64::from(replicas).div_ceil(self.nodes(load)).min(self.places());
        let share = room(self.cores).cpu as f64 / 1000.0 / neighbours as f64;
        (load / f64::from(replicas)).min(limit).min(share) / self.request() / self.target()
    }

    fn target(&self) -> f64 {
        let metrics = &of_kind(&self.objects, "HorizontalPodAutoscaler")["spec"]["metrics"];
        metrics[0]["resource"]["target"]["averageUtilization"].as_f64().expect("percent") / 100.0
    }

    /// Pods that a load needs, each at its target.
    fn needed(&self, load: f64) -> u32 {
        (load / self.request() / self.target()).ceil() as u32
    }

    /// Nodes that have room for the pods that a load needs.
    fn nodes(&self, load: f64) -> u64 {
        u64::from(self.needed(load)).div_ceil(self.places()).max(2)
    }

    fn autoscaler(&self) -> Autoscaler {
        Autoscaler::of(of_kind(&self.objects, "HorizontalPodAutoscaler"))
    }

    /// The numbers of pods, period by period, from two until there are as many as a load needs.
    fn steps(&self, load: f64) -> Vec<u32> {
        let (mut scaler, mut steps) = (self.autoscaler(), vec![2]);
        while let Some(&replicas) = steps.last().filter(|pods| **pods < self.needed(load)) {
            assert!(steps.len() < 40, "{load} cores: {steps:?}");
            steps.push(scaler.step(replicas, &[self.ratio(load, replicas)]));
        }
        steps
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_autoscaler_reaches_the_pods_that_a_load_needs_in_a_few_periods_and_nodes_have_room() {
    // 2.75 cores are 25 pictures a second at 110 ms each.
    let cases: [(u64, f64, &[u32]); 5] = [
        (2, 2.75, &[2, 5]),
        (4, 2.75, &[2, 5]),
        (8, 2.75, &[2, 5]),
        (4, 6.4, &[2, 6, 10]),
        (8, 12.8, &[2, 6, 12, 20]),
    ];
    for (cores, load, expected) in cases {
        let cluster = Cluster { objects: render("base"), cores };
        let steps = cluster.steps(load);
        println!(
            "{load} cores on {} nodes of {cores}: {steps:?} in {} s",
            cluster.nodes(load),
            (steps.len() - 1) as u32 * SYNC_SECONDS
        );
        assert_eq!(steps, expected, "{load} cores on nodes of {cores}");
        for replicas in steps {
            let places = cluster.places() * cluster.nodes(load);
            assert!(u64::from(replicas) <= places, "{replicas} pods in {places} places");
        }
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn pods_go_two_minutes_after_the_load_and_not_before() {
    let cluster = Cluster { objects: render("base"), cores: 4 };
    let mut scaler = cluster.autoscaler();
    let mut replicas = 2;
    for _ in 0..4 {
        replicas = scaler.step(replicas, &[cluster.ratio(6.4, replicas)]);
    }
    assert_eq!(replicas, cluster.needed(6.4));
    let mut seconds = 0;
    while replicas > 2 {
        let before = replicas;
        replicas = scaler.step(replicas, &[0.0]);
        seconds += SYNC_SECONDS;
        assert!(replicas == before || seconds >= 120, "{replicas} pods after {seconds} s");
        assert!(seconds <= 180, "{replicas} pods after {seconds} s");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_queue_adds_pods_where_processor_time_cannot_show_the_load() {
    // Two pods on nodes that other work keeps busy get no more than they request: 125 % of their target, however many
    // requests wait.
    let cluster = Cluster { objects: combine(&["queue"]), cores: 2 };
    let processor = 1.0 / cluster.target();
    let metrics = &of_kind(&cluster.objects, "HorizontalPodAutoscaler")["spec"]["metrics"];
    let target = metrics[1]["pods"]["target"]["averageValue"].as_str().expect("a quantity");
    let waiting = 8.0 / target.parse::<f64>().expect("a number");
    assert_eq!(cluster.autoscaler().step(2, &[processor]), 3);
    assert_eq!(cluster.autoscaler().step(2, &[processor, waiting]), 6);
    // One request that waits for a moment adds no pod.
    assert_eq!(cluster.autoscaler().step(2, &[1.0, 0.5]), 2);
}
