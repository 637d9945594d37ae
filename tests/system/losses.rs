//! How many requests a pod that fails costs, with the probes of the manifests: a process that hangs, and one that is
//! killed.

use std::process::Command;
use std::time::Duration;

use spotter_tests::containerd::{Containerd, SCRATCH};
use spotter_tests::kubelet::{Kubelet, Pod, Wanted};
use spotter_tests::manifests::{of_kind, render};
use spotter_tests::service::{Losses, Service};

/// Requests a second, as many as were sent to a cluster before.
const RATE: u32 = 4;

fn kill(signal: &str, pid: u32) {
    let killed = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
}

/// Causes a fault with one of two pods, and returns what clients lost.
fn losses(kubelet: &Kubelet, name: &str, fault: impl FnOnce(&Pod, &str) + Send) -> Losses {
    let base = render("base");
    let container = &of_kind(&base, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    let wanted = Wanted { name: "detect", image: SCRATCH, ..Wanted::default() };
    let names = [format!("{name}-1"), format!("{name}-2")];
    let names = [&*names[0], &*names[1]];
    let service = Service::run(kubelet, &names, wanted, container);
    // Longer than the liveness probe takes, and a restart.
    let losses = service.losses(RATE, Duration::from_secs(24), fault);
    println!("{name}: {losses:?}");
    assert!(service.is_whole(), "{name}: the pod was not restarted");
    service.remove();
    losses
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_that_fails_costs_few_requests_and_none_of_a_client_that_tries_another_pod() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let function = |container: &str| containerd.pid_of_pod(container).expect("a process");
    let hangs = losses(&kubelet, "hangs", |_, container| kill("-STOP", function(container)));
    let killed = losses(&kubelet, "killed", |_, container| kill("-9", function(container)));
    let shim = losses(&kubelet, "shim-killed", |pod, _| {
        kill("-9", containerd.shim(&pod.id).expect("a shim"));
    });
    // Half of the requests until readiness notices, which takes 3 s: 6, and one more for each end of that time. Before,
    // a pod that hung cost 11, and a process that was killed 3.
    assert!(hangs.lost <= 8, "{hangs:?}");
    assert!(killed.lost <= 6 && shim.lost <= 8, "{killed:?}, {shim:?}");
    for found in [&hangs, &killed, &shim] {
        assert!(found.lost_after_retry == 0 && found.sent > 60, "{found:?}");
    }
    containerd.assert_nothing_left();
}
