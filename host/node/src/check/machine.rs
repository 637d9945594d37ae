//! Checks what containerd, the shim and a kubelet need from the machine.

use super::{Finding, fail, pass, warn};
use crate::state::{MachineState, Watches};

/// The controllers that enforce the limits of pods. A kubelet does not start without them.
const CGROUP_V2_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// The same for version 1, where CPU time is accounted separately from `cpu`.
const CGROUP_V1_CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

/// What a node with 110 pods needs: Linux's defaults, 128 instances and, on small machines, 8,192 watches, are too few.
const MIN_WATCHES: Watches = Watches { max_instances: 512, max_watches: 65_536 };

/// The first kernel with `PAGEMAP_SCAN`, with which wasmtime resets instances cheaply.
const PAGEMAP_SCAN_KERNEL: (u32, u32) = (6, 7);

/// Checks for both roles.
pub(super) fn findings(state: &MachineState) -> Vec<Finding> {
    let has_overlay = state.file_systems.iter().any(|kind| kind == "overlay");
    vec![
        cgroups(state),
        if has_overlay {
            pass("overlay", "kernel", "overlay file systems are supported")
        } else {
            fail(
                "overlay",
                "kernel",
                "overlay file systems are not supported, but containerd's default snapshotter needs them",
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
        watches(state.watches),
        kernel(&state.kernel),
    ]
}

/// Checks for a node.
pub(super) fn node_findings(state: &MachineState) -> Vec<Finding> {
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
                "/ is not a shared mount: volumes are not visible in pods",
                "mount --make-rshared /",
            )
        },
        if state.has_kernel_log {
            pass("kmsg", "kernel", "/dev/kmsg exists")
        } else {
            fail(
                "kmsg",
                "kernel",
                "there is no /dev/kmsg: a kubelet does not start without it",
                "in LXC: lxc.mount.entry = /dev/kmsg dev/kmsg none bind,create=file 0 0",
            )
        },
    ]);
    findings
}

/// Only the host's root can set which devices a pod may use.
fn user_namespace(state: &MachineState) -> Finding {
    if state.cgroups.version == 1 {
        return fail(
            "user-namespace",
            "cgroups",
            "version 1 in a user namespace: pods do not start, because their device rules cannot be set",
            "use a privileged container, or a host with cgroup v2",
        );
    }
    warn(
        "user-namespace",
        "cgroups",
        "a user namespace with cgroup v2: the shim is not tested with it",
        "try a pod, or use a privileged container, which works",
    )
}

fn shim(state: &MachineState) -> Finding {
    match &state.containerd.shim {
        Some(path) => pass("shim", "containerd", format!("the shim is {}", path.display())),
        None => fail(
            "shim",
            "containerd",
            "there is no containerd-shim-spotter-v1 on containerd's path",
            "spotter shim install",
        ),
    }
}

fn configuration(state: &MachineState) -> Finding {
    let path = state.containerd.config.display();
    let fix =
        format!("spotter shim install --containerd-config {path}; systemctl restart containerd");
    let message = match &state.containerd.has_runtime {
        Ok(true) => {
            return pass("containerd-config", "containerd", "the runtime `spotter` is configured");
        }
        Ok(false) if state.containerd.has_config => {
            format!("neither {path} nor a file that it imports has the runtime `spotter`")
        }
        Ok(false) => format!("{path} does not exist"),
        Err(error) => error.clone(),
    };
    fail("containerd-config", "containerd", message, fix)
}

fn cgroups(state: &MachineState) -> Finding {
    let cgroups = &state.cgroups;
    let wanted: &[&str] =
        if cgroups.version == 1 { &CGROUP_V1_CONTROLLERS } else { &CGROUP_V2_CONTROLLERS };
    let has = |wanted: &str| cgroups.controllers.iter().any(|controller| controller == wanted);
    let missing: Vec<&str> = wanted.iter().filter(|wanted| !has(wanted)).copied().collect();
    let version = format!("version {}", cgroups.version);
    if missing.is_empty() {
        return pass("cgroups", "cgroups", format!("{version}, with {}", wanted.join(", ")));
    }
    let fix = if missing.contains(&"memory") {
        "boot with cgroup_enable=memory (in LXC: lxc.mount.auto = cgroup:rw:force)"
    } else {
        "boot a kernel that has them (in LXC: lxc.mount.auto = cgroup:rw:force)"
    };
    let said = format!("{version} lacks {}: pods' limits are not enforced", missing.join(", "));
    fail("cgroups", "cgroups", said, fix)
}

/// A kubelet, containerd and systemd each watch files, as the same user on the host and in all its LXC nodes.
fn watches(watches: Watches) -> Finding {
    let Watches { max_instances, max_watches } = watches;
    let said = format!("{max_instances} instances and {max_watches} watches for each user");
    if max_instances >= MIN_WATCHES.max_instances && max_watches >= MIN_WATCHES.max_watches {
        return pass("inotify", "kernel", said);
    }
    warn(
        "inotify",
        "kernel",
        format!("{said}: a kubelet or a pod's log may fail with \"too many open files\""),
        "sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288 (in LXC: on the host)",
    )
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version >= PAGEMAP_SCAN_KERNEL {
        return pass("kernel", "kernel", format!("Linux {release} resets instances quickly"));
    }
    warn(
        "kernel",
        "kernel",
        format!(
            "Linux {release} is older than {}.{}: each request takes about 0.1 ms longer",
            PAGEMAP_SCAN_KERNEL.0, PAGEMAP_SCAN_KERNEL.1
        ),
        "optional: a newer kernel",
    )
}
