//! The memory of pods on one node, which share their code and weights.

use spotter_tests::containerd::{Containerd, SCRATCH};
use spotter_tests::kubelet::{Kubelet, Pod, Wanted};
use spotter_tests::{client, leftovers, pictures};

/// Numbers of pods on the node when memory is measured.
const MEASURED_AT: [usize; 3] = [1, 10, 50];

/// The memory that a RuntimeClass reserves for a pod's shim and sandbox, in kB.
const OVERHEAD_KB: u64 = 16 << 10;

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn fifty_pods_on_one_node_all_answer_and_share_the_weights() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let wanted = Wanted { name: "detect", image: SCRATCH, ..Wanted::default() };
    let (mut pods, mut containers) = (Vec::<Pod>::new(), Vec::new());
    let mut shares = Vec::new();
    println!("| pods | function: PSS | RSS | shared | shim: PSS |\n|---|---|---|---|---|");
    for count in MEASURED_AT {
        while pods.len() < count {
            let (pod, container) = kubelet.serve(&format!("many-{}", pods.len()), &wanted);
            pods.push(pod);
            containers.push(container);
        }
        let picture = pictures::bytes("skimage_chelsea.png");
        for pod in &pods {
            assert_eq!(client::post_picture(&pod.url("/detect"), &picture).status, 200);
        }
        let functions: Vec<u32> =
            containers.iter().filter_map(|id| containerd.pid_of_pod(id)).collect();
        assert_eq!(functions.len(), count);
        let (function, shim) = (Memory::mean(&functions), shims(&containerd, &functions));
        let megabytes = |kilobytes: u64| kilobytes as f64 / 1000.0;
        println!(
            "| {count} | {:.1} MB | {:.1} MB | {:.1} MB | {:.1} MB |",
            megabytes(function.pss),
            megabytes(function.rss),
            megabytes(function.shared),
            megabytes(shim)
        );
        assert!(count == 1 || shim < OVERHEAD_KB, "{shim} kB of the shim");
        shares.push(function);
    }
    // The compiled code and the weights are in memory once, however many processes map them.
    let [one, ten, fifty] = &shares[..] else { panic!("{} measurements", shares.len()) };
    assert!(fifty.shared > 10 << 10, "{fifty:?}");
    assert!(fifty.pss < fifty.rss / 2, "{fifty:?}");
    assert!(one.pss > 2 * ten.pss && ten.pss > fifty.pss, "{shares:?}");
    for pod in &pods {
        kubelet.remove_pod(pod);
    }
    containerd.assert_nothing_left();
}

/// The proportional share of all of the shims' own processes, per pod, in kB.
fn shims(containerd: &Containerd, functions: &[u32]) -> u64 {
    let socket = containerd.socket().display().to_string();
    let shims = leftovers::processes().into_iter().filter(|(pid, line)| {
        let is_shim = line.contains("containerd-shim-spotter-v1") && line.contains(&socket);
        is_shim && !functions.contains(pid)
    });
    shims.map(|(pid, _)| Memory::of(pid).pss).sum::<u64>() / functions.len() as u64
}

/// Memory of a process in kB: its proportional share, its resident size, and the part of that which is shared.
#[derive(Debug)]
struct Memory {
    pss: u64,
    rss: u64,
    shared: u64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim().trim_end_matches("kB").trim().parse().expect("a number")
        };
        let shared = field("Shared_Clean:") + field("Shared_Dirty:");
        Self { pss: field("Pss:"), rss: field("Rss:"), shared }
    }

    /// The mean of several processes.
    fn mean(pids: &[u32]) -> Self {
        let all: Vec<Self> = pids.iter().copied().map(Self::of).collect();
        let mean = |of: fn(&Self) -> u64| all.iter().map(of).sum::<u64>() / all.len() as u64;
        Self { pss: mean(|one| one.pss), rss: mean(|one| one.rss), shared: mean(|one| one.shared) }
    }
}
