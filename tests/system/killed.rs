//! Processes of the shim that are killed, and what is left of them.

use std::path::Path;

use spotter_tests::containerd::{Containerd, SCRATCH, wait_until};
use spotter_tests::kubelet::{Kubelet, Wanted};
use spotter_tests::{client, leftovers};

use crate::compile::compiling;
use crate::shim::kill;

/// The processes of this containerd's shims, and the parent of each.
fn processes(containerd: &Containerd) -> Vec<(u32, u32)> {
    let folder = containerd.path("").display().to_string();
    let shims = leftovers::processes()
        .into_iter()
        .filter(|(_, line)| line.contains("containerd-shim-spotter-v1") && line.contains(&folder));
    shims.filter_map(|(pid, _)| Some((pid, parent(pid)?))).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The shim among these processes: its parent is none of them.
fn shim(all: &[(u32, u32)]) -> u32 {
    let is_shims = |pid: u32| all.iter().any(|(other, _)| *other == pid);
    all.iter().find(|(_, parent)| !is_shims(*parent)).expect("a shim").0
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_container_whose_controller_is_killed_can_be_stopped_and_removed() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let wanted = Wanted { name: "detect", image: SCRATCH, ..Wanted::default() };
    let (pod, container) = kubelet.serve("controlled", &wanted);
    let all = processes(&containerd);
    let shim = shim(&all);
    // Its first child forks all others, which are the containers' controllers, and the container's own process.
    let children = all.iter().filter(|(_, parent)| *parent == shim).map(|(pid, _)| *pid);
    let own = containerd.pid_of_pod(&container);
    let controllers: Vec<u32> = children.skip(1).filter(|pid| Some(*pid) != own).collect();
    assert!(!controllers.is_empty(), "{all:?}");
    controllers.into_iter().for_each(kill);
    // The container goes on, and ends when it is asked to.
    assert!(client::is_ready(&pod.admin_url("/readyz")));
    kubelet.stop(&container, 30);
    assert_eq!(kubelet.exit_status(&container), 0, "{}", kubelet.log(&pod));
    kubelet.remove(&container);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_shim_that_is_killed_while_it_compiles_leaves_no_compiler_and_no_cgroup() {
    let containerd = Containerd::start_without_cache();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("killed");
    kubelet.run(&pod, &Wanted { name: "detect", image: SCRATCH, ..Wanted::default() });
    let in_cgroup = |cgroup: &Path| std::fs::read_to_string(cgroup.join("cgroup.procs"));
    wait_until("the compiler", || {
        compiling().is_some_and(|cgroup| in_cgroup(&cgroup).is_ok_and(|listed| !listed.is_empty()))
    });
    kill(shim(&processes(&containerd)));
    wait_until("the end of the compiler", || compiling().is_none());
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}
