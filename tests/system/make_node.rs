//! `make-node` when it is interrupted, when the machine lacks something, and when it gets files that are not programs.
//! Stand-ins replace LXC, so each step takes no time; the module `lxc` runs the real one.

use std::fs;

use spotter_tests::stand_ins::Machine;
use spotter_tests::{stderr, stdout};

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_run_that_broke_off_at_any_step_is_finished_by_the_next() {
    let changed = ["--mtu", "1400", "--dns", "10.0.0.2"];
    let mut steps = 0;
    for step in 1.. {
        let machine = Machine::new();
        // A new node, and the same node with other files.
        let mut broke_off = false;
        for further in [&[] as &[&str], &changed] {
            broke_off |= !machine.make_node(further, step).status.success();
            let again = machine.make_node(further, 0);
            assert!(again.status.success(), "step {step}: {}{}", stdout(&again), stderr(&again));
            assert_eq!(machine.stale(), "", "the node was not restarted after step {step}");
            let third = stdout(&machine.make_node(further, 0));
            assert!(third.contains("node1 is up to date"), "step {step}: {third}");
        }
        if !broke_off {
            break;
        }
        steps = step;
    }
    assert!(steps > 15, "only {steps} steps were broken off");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_is_no_program_is_found_before_anything_is_written() {
    let bootstrap = "certificate-authority-data: YQ==\n";
    let programs =
        ["bin/containerd-shim-spotter-v1", "bin/spotter", "bin/kubelet", "bin/kube-proxy"];
    for file in programs {
        let machine = Machine::new();
        machine.program("kubelet", "");
        machine.program("kube-proxy", "");
        fs::write(machine.path("bootstrap"), bootstrap).expect("a file");
        // As a download that was cut short: the beginning of an ELF file.
        fs::write(machine.path(file), b"\x7fELF\x02\x01\x01").expect("a file");
        let (kubelet, bootstrap) = (machine.path("bin/kubelet"), machine.path("bootstrap"));
        let proxy = machine.path("bin/kube-proxy");
        let [kubelet, bootstrap, proxy] =
            [&kubelet, &bootstrap, &proxy].map(|path| path.to_str().expect("a path"));
        let mut arguments =
            vec!["--kubelet", kubelet, "--bootstrap", bootstrap, "--pods", "10.244.1.0/24"];
        arguments.extend(["--kube-proxy", proxy, "--kube-proxy-config", bootstrap]);
        let refused = machine.make_node(&arguments, 0);
        assert_eq!(refused.status.code(), Some(64), "{}", stdout(&refused));
        let said = stderr(&refused);
        assert!(said.contains(&format!("{file} is no program for this machine")), "{said}");
        assert!(!machine.path("lxc/node1").exists(), "it wrote files for {file}");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn each_unprivileged_node_gets_ids_of_its_own_and_keeps_them() {
    let machine = Machine::new();
    let map = |node: &str, first: u32| {
        let folder = machine.path("lxc").join(node);
        fs::create_dir_all(&folder).expect("a folder");
        let lines = ["u", "g"].map(|kind| format!("lxc.idmap = {kind} 0 {first} 65536\n"));
        fs::write(folder.join("lxc-unprivileged.conf"), lines.concat()).expect("a file");
    };
    let first = |machine: &Machine| -> u32 {
        let planned = machine.make_node(&["--unprivileged", "--dry-run"], 0);
        let said = stdout(&planned);
        let owner = said.lines().find_map(|line| line.strip_prefix("make-node: chown "));
        let first = owner.and_then(|owner| owner.split(':').next()?.parse().ok());
        first.unwrap_or_else(|| panic!("no owner: {said}{}", stderr(&planned)))
    };
    map("node2", 100_000);
    map("node3", 165_000);
    let own = first(&machine);
    for taken in [100_000_u32, 165_000] {
        assert!(own.abs_diff(taken) >= 65_536, "{own} overlaps {taken}");
    }
    map("node1", 700_000);
    assert_eq!(first(&machine), 700_000);
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_missing_modprobe_is_told_from_a_missing_module() {
    let machine = Machine::new();
    // This kernel may have all of them.
    let said = |machine: &Machine| {
        let made = machine.make_node(&[], 0);
        assert!(made.status.success(), "{}", stderr(&made));
        stdout(&made)
    };
    let without = said(&machine);
    machine.program("modprobe", "exit 1");
    let refused = said(&machine);
    let needs = without.contains("modprobe is missing: apt-get install kmod");
    assert_eq!(needs, refused.contains("the kernel has no module"), "{without}{refused}");
    assert!(!without.contains("the kernel has no module"), "{without}");
}
