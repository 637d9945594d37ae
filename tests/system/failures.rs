//! How long a failed pod or node makes requests fail, calculated from the times in the manifests.

use serde_json::Value;
use spotter_tests::manifests::{of_kind, render};

fn pod() -> Value {
    of_kind(&render("base"), "Deployment")["spec"]["template"]["spec"].clone()
}

/// The longest time until a probe notices that a pod no longer answers, in seconds. Kubernetes' defaults are 10 s
/// between probes, 1 s for each, and three failures.
fn notices_after(probe: &Value) -> u64 {
    let number = |key: &str, default: u64| probe[key].as_u64().unwrap_or(default);
    number("periodSeconds", 10) * number("failureThreshold", 3) + number("timeoutSeconds", 1)
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_that_hangs_gets_no_requests_soon_and_is_restarted_later() {
    let container = &pod()["containers"][0];
    let (unready, restarted) =
        (notices_after(&container["readinessProbe"]), notices_after(&container["livenessProbe"]));
    assert!(unready <= 3, "requests go to a pod that hangs for {unready} s");
    assert!(restarted <= 16, "a pod hangs for {restarted} s");
    assert!(restarted >= 3 * unready, "a pod that is only slow is restarted after {restarted} s");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_pods_of_a_node_that_went_down_are_replaced_soon() {
    let pod = pod();
    for taint in ["not-ready", "unreachable"] {
        let key = format!("node.kubernetes.io/{taint}");
        let tolerations = pod["tolerations"].as_array().expect("tolerations").iter();
        let stays: Vec<u64> = tolerations
            .filter(|toleration| toleration["key"] == *key && toleration["effect"] == "NoExecute")
            .filter_map(|toleration| toleration["tolerationSeconds"].as_u64())
            .collect();
        // Long enough for a kubelet that restarts.
        assert!(matches!(stays[..], [10..=30]), "{taint}: {stays:?}");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn each_revision_is_spread_over_the_nodes_and_zones_that_are_up() {
    let pod = pod();
    let constraints = pod["topologySpreadConstraints"].as_array().expect("constraints");
    let topologies: Vec<&Value> = constraints.iter().map(|one| &one["topologyKey"]).collect();
    assert_eq!(topologies, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    for constraint in constraints {
        assert_eq!(constraint["matchLabelKeys"][0], "pod-template-hash");
        assert_eq!(constraint["nodeTaintsPolicy"], "Honor");
        assert_eq!(constraint["whenUnsatisfiable"], "ScheduleAnyway", "one node would be too few");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn kubectl_describe_shows_why_a_container_failed_and_how_long_it_may_compile() {
    let container = &pod()["containers"][0];
    assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError");
    // The kubelet writes the first 25 events `Startup probe failed`, and asks for as long as the container compiles.
    let startup = notices_after(&container["startupProbe"]);
    assert!((300..=360).contains(&startup), "a container may compile for {startup} s");
}
