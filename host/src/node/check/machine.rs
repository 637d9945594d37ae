//! What containerd, the shim and a kubelet need of the machine.

use super::{Finding, fail, pass, warn};
use crate::node::containerd::{self, RuntimeEntry};
use crate::node::state::MachineState;

/// The controllers by which pods' limits are kept, and without which a kubelet does not start.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// What it wants of version 1 besides; in version 2, `cpu` has the accounts.
const CONTROLLERS_OF_1: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

/// The first kernel with `PAGEMAP_SCAN`, by which instances are reset at little cost.
const FAST_RESET: (u32, u32) = (6, 7);

/// What a host of nodes needs too.
pub(super) fn of_any(state: &MachineState) -> Vec<Finding> {
    let has_overlay = state.file_systems.iter().any(|kind| kind == "overlay");
    vec![
        cgroups(state),
        if has_overlay {
            pass("overlay", "kernel", "overlay file systems are there")
        } else {
            fail(
                "overlay",
                "kernel",
                "there are no overlay file systems, which containerd's usual snapshots are",
                "modprobe overlay (in LXC: on the host)",
            )
        },
        if state.forwards {
            pass("ip-forward", "network", "packets are forwarded to pods")
        } else {
            fail(
                "ip-forward",
                "network",
                "net.ipv4.ip_forward is 0: pods cannot be reached",
                "sysctl -w net.ipv4.ip_forward=1",
            )
        },
        kernel(&state.kernel),
    ]
}

/// What containerd, the shim and the kubelet need.
pub(super) fn of_node(state: &MachineState) -> Vec<Finding> {
    let mut findings = Vec::new();
    if state.is_unprivileged {
        findings.push(user_namespace(state));
    }
    findings.extend([
        shim(state),
        configuration(state),
        if state.shares_mounts {
            pass("mount-propagation", "mounts", "/ is shared")
        } else {
            fail(
                "mount-propagation",
                "mounts",
                "/ is not a shared mount: volumes do not reach pods",
                "mount --make-rshared /",
            )
        },
        if state.has_kernel_log {
            pass("kmsg", "kernel", "/dev/kmsg is there")
        } else {
            fail(
                "kmsg",
                "kernel",
                "there is no /dev/kmsg, without which a kubelet does not start",
                "in LXC: lxc.mount.entry = /dev/kmsg dev/kmsg none bind,create=file 0 0",
            )
        },
    ]);
    findings
}

/// Which devices a pod may use is set by the host's root alone.
fn user_namespace(state: &MachineState) -> Finding {
    if state.cgroups.version == 1 {
        return fail(
            "user-namespace",
            "cgroups",
            "version 1 in a user namespace: pods' devices cannot be set, and pods do not start",
            "a privileged container, or a host of cgroup v2",
        );
    }
    warn(
        "user-namespace",
        "cgroups",
        "a user namespace on cgroup v2: this was not tried with the shim",
        "try a pod; a privileged container works",
    )
}

fn shim(state: &MachineState) -> Finding {
    match &state.containerd.shim {
        Some(path) => pass("shim", "containerd", format!("the shim is {}", path.display())),
        None => fail(
            "shim",
            "containerd",
            "there is no containerd-shim-spotter-v1 on its path",
            "spotter shim install",
        ),
    }
}

fn configuration(state: &MachineState) -> Finding {
    let (path, text) = (&state.containerd.config, &state.containerd.text);
    let fix = format!(
        "spotter shim install --containerd-config {}; systemctl restart containerd",
        path.display()
    );
    let Some(text) = text else {
        let message = format!("there is no {}", path.display());
        return fail("containerd-config", "containerd", message, fix);
    };
    match containerd::edit(text, RuntimeEntry::Present) {
        Ok(edited) if edited == *text => {
            pass("containerd-config", "containerd", "the runtime `spotter` is in its configuration")
        }
        Ok(_) => {
            let message = format!("{} has no runtime `spotter`", path.display());
            fail("containerd-config", "containerd", message, fix)
        }
        Err(error) => fail("containerd-config", "containerd", format!("{error:#}"), fix),
    }
}

fn cgroups(state: &MachineState) -> Finding {
    let cgroups = &state.cgroups;
    let wanted: &[&str] = if cgroups.version == 1 { &CONTROLLERS_OF_1 } else { &CONTROLLERS };
    let has = |wanted: &str| cgroups.controllers.iter().any(|controller| controller == wanted);
    let missing: Vec<&str> = wanted.iter().filter(|wanted| !has(wanted)).copied().collect();
    let version = format!("version {}", cgroups.version);
    if missing.is_empty() {
        return pass("cgroups", "cgroups", format!("{version}, with {}", wanted.join(", ")));
    }
    let fix = if missing.contains(&"memory") {
        "boot with cgroup_enable=memory (in LXC: lxc.mount.auto = cgroup:rw:force)"
    } else {
        "boot with a kernel that has them (in LXC: lxc.mount.auto = cgroup:rw:force)"
    };
    let said = format!("{version} lacks {}: pods' limits are not kept", missing.join(", "));
    fail("cgroups", "cgroups", said, fix)
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version >= FAST_RESET {
        return pass("kernel", "kernel", format!("Linux {release} resets instances fast"));
    }
    warn(
        "kernel",
        "kernel",
        format!(
            "Linux {release} is older than {}.{}: each request costs about a tenth of a millisecond more",
            FAST_RESET.0, FAST_RESET.1
        ),
        "a newer kernel; nothing is wrong without",
    )
}
