//! Commands in a function's container: `spotter health`, for probes.

use std::process::Command;

use spotter_tests::containerd::{Containerd, SCRATCH, wait_until};
use spotter_tests::kubelet::{Kubelet, Wanted};

/// The command of the startup probe in `k8s/base`.
const HEALTH: [&str; 2] = ["/spotter", "health"];

fn function() -> Wanted<'static> {
    Wanted { name: "detect", image: SCRATCH, ..Wanted::default() }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_startup_probe_says_that_the_image_is_being_compiled_and_then_that_it_is_ready() {
    let containerd = Containerd::start_without_cache();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("probed");
    let container = kubelet.run(&pod, &function());
    let step = "Compiling `detector`, once for this node; it serves requests when this is done\n";
    wait_until("the compiler", || {
        let (status, output) = kubelet.exec(&container, &HEALTH).expect("an answer");
        assert_eq!(status, 1, "{output}");
        output == step
    });
    wait_until("readiness", || {
        kubelet.exec(&container, &HEALTH).expect("an answer") == (0, "ready\n".to_owned())
    });
    kubelet.stop(&container, 10);
    assert_eq!(kubelet.exit_status(&container), 0);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn other_commands_are_refused_and_none_is_left() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("asked");
    let environment = [("SPOTTER_ADMIN", "127.0.0.1:4001")];
    let container = kubelet.run(&pod, &Wanted { environment: &environment, ..function() });
    // The port of the admin listener is the container's.
    wait_until("readiness", || kubelet.exec(&container, &HEALTH).expect("an answer").0 == 0);
    for command in [&["sh", "-c", "true"][..], &["/spotter", "health", "--admin", "10.0.0.1:1"]] {
        let refused = kubelet.exec(&container, command).expect_err("a refusal");
        assert!(refused.contains("executes only `/spotter health`"), "{refused}");
    }
    // Many at once, and one after the other: none is left.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(kubelet.exec(&container, &HEALTH).expect("an answer").0, 0);
                }
            });
        }
    });
    // One that gets no answer, and one that is killed before that.
    let pid = containerd.pid_of_pod(&container).expect("a process").to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &pid]).status().is_ok_and(|sent| sent.success()));
    };
    signal("-STOP");
    let (status, said) = kubelet.exec(&container, &HEALTH).expect("an answer");
    assert_eq!(status, 1);
    assert!(said.starts_with("no answer from the admin listener"), "{said}");
    let killed = kubelet.exec_within(1, &container, &HEALTH).expect_err("no answer in time");
    assert!(killed.contains("timeout"), "{killed}");
    signal("-CONT");
    assert_eq!(kubelet.exec(&container, &HEALTH), Ok((0, "ready\n".to_owned())));
    kubelet.stop(&container, 10);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}
