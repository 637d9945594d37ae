//! The manifests' numbers fit each other, and nodes of common sizes.

use serde_json::Value;
use spotter_config::limits::{LimitSettings, Limits};
use spotter_tests::cluster::{Resources, room};
use spotter_tests::manifests::{of_kind, render};

/// What the scheduler reserves for one pod.
fn pod(objects: &[Value]) -> Resources {
    let container = &of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let overhead = &of_kind(objects, "RuntimeClass")["overhead"]["podFixed"];
    Resources::of(&container["resources"]["requests"]).plus(Resources::of(overhead))
}

/// The pods that a Deployment adds during a rolling update: a number, or a percentage that is rounded up.
fn surge(deployment: &Value, replicas: u64) -> u64 {
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(rolling["maxUnavailable"], 0, "an update may leave fewer pods than the load needs");
    match rolling["maxSurge"].as_str() {
        Some(text) => {
            let percent: u64 = text.trim_end_matches('%').parse().expect("a percentage");
            (replicas * percent).div_ceil(100)
        }
        None => rolling["maxSurge"].as_u64().expect("a number"),
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_rolling_update_a_drain_and_the_autoscaler_have_room_on_two_nodes_of_2_4_and_8_cores() {
    let objects = render("base");
    let (deployment, scaler) =
        (of_kind(&objects, "Deployment"), of_kind(&objects, "HorizontalPodAutoscaler"));
    let least = scaler["spec"]["minReplicas"].as_u64().expect("a number");
    for cores in [2, 4, 8] {
        let places = pod(&objects).times_in(room(cores));
        assert!(places >= cores, "a node of {cores} cores has {places} places");
        assert!(2 * places >= least + surge(deployment, least), "no room for an update: {places}");
        assert!(places >= least, "no room for {least} pods while one of two nodes is drained");
        assert!(2 * places >= 2 * least, "no room for the autoscaler's first step");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn every_way_to_run_the_detector_asks_for_the_same_resources() {
    let base = render("base");
    let container = &of_kind(&base, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let operated = render("overlays/spinkube");
    assert_eq!(of_kind(&operated, "SpinApp")["spec"]["resources"], container["resources"]);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pods_memory_holds_all_that_its_server_accepts() {
    let objects = render("base");
    let container = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let given = Resources::of(&container["resources"]["limits"]);
    // The default on a machine with as many cores as the limit.
    let instances = usize::try_from(given.cpu / 1000).expect("cores");
    let settings = LimitSettings { instances: Some(instances), ..LimitSettings::default() };
    let limits = settings.resolve(LimitSettings::default(), Some(given.memory)).expect("limits");
    assert!(limits.max_memory() <= given.memory, "{limits:?} need {} bytes", limits.max_memory());
    assert_eq!(limits.instance_memory, Limits::default().instance_memory);
}
