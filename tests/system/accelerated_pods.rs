//! The profile `accelerated` in pods: the model is in the image, and little is compiled.

use std::time::Instant;

use spotter_tests::containerd::{Containerd, KUBERNETES};
use spotter_tests::kubelet::{Kubelet, Pod, Wanted};
use spotter_tests::{client, pictures, run, stderr};

use crate::compile::PeakOfCompilers;

const IMAGE: &str = "localhost/detect:accelerated";

/// The weights of its network, its tensors, and its share of what all pods map.
const MAX_SHARE_KB: u64 = 50_000;

/// What its compiler may take of the pod's memory.
const MAX_COMPILER_BYTES: u64 = 150 << 20;

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_accelerated_pod_compiles_within_a_small_limit_and_detects() {
    const PODS: usize = 10;
    let built = run(&["build", "--profile", "accelerated"]);
    assert!(built.status.success(), "{}", stderr(&built));
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("image.tar");
    let path = archive.to_str().expect("a path");
    let made = run(&["image", "--profile", "accelerated", "--name", IMAGE, "-o", path]);
    assert!(made.status.success(), "{}", stderr(&made));

    let containerd = Containerd::start_without_cache();
    let kubelet = Kubelet::of(&containerd);
    containerd.import(KUBERNETES, &archive);
    let wanted = Wanted { name: "detect", image: IMAGE, memory: 256 << 20, ..Wanted::default() };
    let mut containers = Vec::new();
    let peak = PeakOfCompilers::watch();
    let pods: Vec<Pod> = (0..PODS)
        .map(|number| {
            let began = Instant::now();
            let (pod, container) = kubelet.serve(&format!("accelerated-{number}"), &wanted);
            if number < 2 {
                println!("pod {number} was ready after {:?}", began.elapsed());
            }
            containers.push(container);
            pod
        })
        .collect();
    let peak = peak.end();
    println!("compiling took {} MiB", peak >> 20);
    assert!((10 << 20..MAX_COMPILER_BYTES).contains(&peak), "{peak} bytes");
    for pod in &pods {
        let picture = pictures::bytes("skimage_chelsea.png");
        let reply = client::post_picture(&pod.url("/detect"), &picture).json();
        assert_eq!(reply["detections"][0]["label"], "cat", "{reply}");
    }
    let shares: Vec<u64> =
        containers.iter().filter_map(|id| containerd.pid_of_pod(id)).map(proportional).collect();
    assert_eq!(shares.len(), PODS);
    let share = shares.iter().sum::<u64>() / shares.len() as u64;
    println!("each of {PODS} pods: {share} kB of its own share");
    assert!(share < MAX_SHARE_KB, "each pod has {share} kB of its own share");
    for pod in &pods {
        kubelet.remove_pod(pod);
    }
    containerd.assert_nothing_left();
}

/// A process's proportional share of memory, in kB.
fn proportional(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("its share");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
