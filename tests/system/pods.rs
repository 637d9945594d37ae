//! The shim as Kubernetes drives it: pods, through containerd's Container Runtime Interface.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use image::{ImageFormat, RgbImage};
use spotter_tests::containerd::{Containerd, KUBERNETES, PAUSE, SCRATCH, wait_until};
use spotter_tests::kubelet::{Kubelet, Pod, Processes, Wanted};
use spotter_tests::oci::{self, LINUX_CONFIG};
use spotter_tests::{client, pictures};

const FUNCTION: Wanted<'static> = Wanted {
    name: "detect",
    image: SCRATCH,
    environment: &[],
    memory: 0,
    cpu_quota: 0,
    user: 0,
    processes: Processes::Own,
    volumes: &[],
};

fn detect(pod: &Pod) -> u16 {
    client::post_picture(&pod.url("/detect"), &pictures::bytes("skimage_chelsea.png")).status
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_serves_logs_and_reports_what_it_uses() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("serves");
    let wanted = Wanted {
        // As the restricted Pod Security Standard requires. Such a user may not bind port 80 here.
        user: 1000,
        environment: &[("SPIN_HTTP_LISTEN_ADDR", "0.0.0.0:8080"), ("SPOTTER_INSTANCES", "1")],
        memory: 256 << 20,
        cpu_quota: 150_000,
        ..FUNCTION
    };
    let container = kubelet.run(&pod, &wanted);
    kubelet.wait_until_ready(&pod);
    let picture = pictures::bytes("skimage_chelsea.png");
    for _ in 0..10 {
        assert_eq!(client::post_picture(&pod.url(":8080/detect"), &picture).status, 200);
    }
    let pid = containerd.pid_of_pod(&container).expect("a process");
    let memory = limit(pid, ("memory", "memory.limit_in_bytes"), "memory.max");
    assert_eq!(memory, (256 << 20).to_string());
    let quota = limit(pid, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert_eq!(quota.split(' ').next(), Some("150000"));
    let log = kubelet.log(&pod);
    assert!(log.contains("Serving http://0.0.0.0:8080") && log.contains("\"status\":200"), "{log}");
    wait_until("stats", || kubelet.stats(&container).0 > 0);
    let (cpu, memory) = kubelet.stats(&container);
    println!("{} ms of CPU time, {} MiB", cpu / 1_000_000, memory >> 20);
    assert!(cpu > 500_000_000 && memory > 1 << 20, "{cpu} ns, {memory} bytes");
    kubelet.stop(&container, 10);
    assert_eq!(kubelet.exit_status(&container), 0);
    kubelet.remove(&container);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

/// A limit of a process's cgroup, by its file under version 1 (after the controller) and version 2.
fn limit(pid: u32, version_1: (&str, &str), version_2: &str) -> String {
    let (controller, file) = version_1;
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    // `4:cpu,cpuacct:/path`: some controllers share a hierarchy, which is mounted under their names together.
    let of = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_it = controllers.split(',').any(|name| name == controller);
        is_it.then(|| format!("/sys/fs/cgroup/{controllers}{path}/{file}"))
    };
    let path = match groups.lines().find_map(of) {
        Some(path) => path,
        None => {
            let path = groups.lines().find_map(|line| line.strip_prefix("0::")).expect("a cgroup");
            format!("/sys/fs/cgroup{path}/{version_2}")
        }
    };
    std::fs::read_to_string(path).expect("a limit").trim().to_owned()
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_that_is_stopped_under_load_loses_no_request() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("stops");
    let container = kubelet.run(&pod, &FUNCTION);
    kubelet.wait_until_ready(&pod);
    let (stopping, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let url = pod.url("/detect");
                let picture = pictures::bytes("skimage_chelsea.png");
                loop {
                    let is_late = stopping.load(Ordering::SeqCst);
                    match client::try_send("POST", &url, &[], &picture) {
                        Ok(reply) => {
                            assert_eq!(reply.status, 200);
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        // Only a request that arrived after the listener was closed may fail.
                        Err(error) => {
                            assert!(is_late || stopping.load(Ordering::SeqCst), "{error}");
                            assert!(error.to_string().contains("refused"), "{error}");
                            break;
                        }
                    }
                }
            });
        }
        wait_until("load", || answered.load(Ordering::SeqCst) > 8);
        stopping.store(true, Ordering::SeqCst);
        kubelet.stop(&container, 20);
    });
    assert_eq!(kubelet.exit_status(&container), 0);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_may_start_its_function_anew() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("anew");
    for _ in 0..2 {
        let container = kubelet.run(&pod, &FUNCTION);
        kubelet.wait_until_ready(&pod);
        assert_eq!(detect(&pod), 200);
        kubelet.stop(&container, 10);
        assert_eq!(kubelet.exit_status(&container), 0);
        kubelet.remove(&container);
    }
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_may_have_sidecars_of_linux_and_other_functions() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("sidecars");
    let sidecar = Wanted { name: "sidecar", image: PAUSE, processes: Processes::Pods, ..FUNCTION };
    let sidecar = kubelet.run(&pod, &sidecar);
    let container = kubelet.run(&pod, &FUNCTION);
    let elsewhere = [("SPIN_HTTP_LISTEN_ADDR", "0.0.0.0:8080"), ("SPOTTER_ADMIN", "0.0.0.0:3002")];
    let second =
        Wanted { name: "second", environment: &elsewhere, processes: Processes::Pods, ..FUNCTION };
    let second = kubelet.run(&pod, &second);
    kubelet.wait_until_ready(&pod);
    assert_eq!(detect(&pod), 200);
    let picture = pictures::bytes("skimage_chelsea.png");
    let url = pod.url(":8080/detect");
    wait_until("the second function", || client::try_send("GET", &url, &[], &[]).is_ok());
    assert_eq!(client::post_picture(&url, &picture).status, 200);
    wait_until("its log", || kubelet.log_of(&pod, "sidecar").contains("paused"));
    // Each container can end on its own, and the others keep running.
    kubelet.stop(&sidecar, 1);
    assert_eq!(kubelet.exit_status(&sidecar), 143);
    kubelet.remove(&sidecar);
    kubelet.stop(&second, 10);
    assert_eq!(kubelet.exit_status(&second), 0);
    assert_eq!(detect(&pod), 200);
    kubelet.stop(&container, 10);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_without_memory_enough_is_said_to_have_been_killed_for_it() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("small");
    let container = kubelet.run(&pod, &Wanted { memory: 16 << 20, ..FUNCTION });
    // Its pixels alone take 36 MB: a PNG is decoded whole, unlike a large JPEG.
    let picture = pictures::encode(&RgbImage::new(4000, 3000).into(), ImageFormat::Png);
    wait_until("its end", || {
        let _ = client::try_send("POST", &pod.url("/detect"), &[], &picture);
        kubelet.exit_status(&container) == 137
    });
    assert_eq!(kubelet.reason(&container), "OOMKilled");
    kubelet.remove(&container);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_accepts_what_its_memory_holds() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let (pod, _) = kubelet.serve("tight", &Wanted { memory: 512 << 20, ..FUNCTION });
    let log = kubelet.log(&pod);
    let lowered = log.contains("\"instances\":1,") && log.contains("\"available\":536870912");
    assert!(lowered && !log.contains("\"needed\""), "{log}");
    kubelet.remove_pod(&pod);
    // One instance of 256 MiB, 16 MiB for either kind of buffer, 20 MiB for 256 connections, and 32 MiB for the host.
    let (pod, _) = kubelet.serve("tighter", &Wanted { memory: 128 << 20, ..FUNCTION });
    assert!(kubelet.log(&pod).contains("\"needed\":356515840"), "{}", kubelet.log(&pod));
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_linux_image_is_said_to_hold_no_application() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let (pod, _) = kubelet.serve("mixed", &FUNCTION);
    kubelet.run(&pod, &Wanted { name: "linux", image: PAUSE, ..FUNCTION });
    wait_until("the log", || {
        kubelet.log_of(&pod, "linux").contains("This image contains no Spotter application")
    });
    assert!(!kubelet.log(&pod).contains("no Spotter application"), "{}", kubelet.log(&pod));
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_container_that_was_never_started_is_removed() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("unstarted");
    let container = kubelet.create(&pod, &FUNCTION).expect("a container");
    kubelet.remove(&container);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_is_wrong_is_described_in_full() {
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("bad");
    // An error in an image is reported in the container's event.
    let manifest = b"spin_manifest_version = 7";
    let layer = oci::tar(&[("spin.toml", 0o644, manifest)]);
    let config = oci::linux_config(&["/spin.toml"], &layer);
    let (archive, name) = (containerd.path("bad.tar"), "docker.io/library/bad:1");
    oci::archive(&archive, name, &config, LINUX_CONFIG, &[(oci::TAR, layer)]);
    containerd.import(KUBERNETES, &archive);
    let bad = kubelet.create(&pod, &Wanted { image: name, ..FUNCTION }).expect("a container");
    let described = kubelet.start(&bad).expect_err("a refusal");
    assert!(described.contains("spin_manifest_version"), "{described}");
    kubelet.remove(&bad);
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}
