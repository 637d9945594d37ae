//! The first pod of an image on a node: what it compiles, where, and what is left of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use spotter_tests::containerd::{Containerd, SCRATCH, wait_until};
use spotter_tests::kubelet::{Kubelet, OOM_SCORE_ADJ, Wanted};
use spotter_tests::{client, leftovers};

/// The cgroup in which a pod compiles, while it does.
fn compiling() -> Option<PathBuf> {
    compiling_in(&["/sys/fs/cgroup/memory/spotter-test", "/sys/fs/cgroup/spotter-test"])
}

fn compiling_in(parents: &[&str]) -> Option<PathBuf> {
    let entries = parents.iter().filter_map(|parent| std::fs::read_dir(parent).ok());
    let mut folders = entries.flatten().flatten().map(|entry| entry.path());
    folders.find(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("compile-")
    })
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The memory of a cgroup, in bytes.
fn memory(cgroup: &Path) -> u64 {
    let files = ["memory.usage_in_bytes", "memory.current"].map(|file| text(&cgroup.join(file)));
    files.iter().find_map(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// The memory of its own that each process of the shim has, in bytes.
fn private(containerd: &Containerd) -> Vec<u64> {
    let folder = containerd.path("").display().to_string();
    let of_shims = leftovers::processes()
        .into_iter()
        .filter(|(_, line)| line.contains("containerd-shim-spotter-v1") && line.contains(&folder));
    let kilobytes = of_shims.filter_map(|(pid, _)| {
        let status = text(Path::new(&format!("/proc/{pid}/status")));
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    kilobytes.map(|kilobytes| kilobytes << 10).collect()
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_first_pod_compiles_in_its_own_cgroup_and_keeps_none_of_the_memory() {
    let containerd = Containerd::start_without_cache();
    let kubelet = Kubelet::of(&containerd);
    let wanted = Wanted { name: "detect", image: SCRATCH, ..Wanted::default() };
    let first = kubelet.run_pod("first");
    // The container starts while its code is compiled. The compiler is killed, as for lack of memory: the container
    // says why, and the next one compiles again.
    let container = kubelet.run(&first, &wanted);
    wait_until("the compiler", || compiling().is_some_and(|cgroup| memory(&cgroup) > 10 << 20));
    let cgroup = compiling().expect("a cgroup");
    for pid in text(&cgroup.join("cgroup.procs")).lines() {
        // For lack of memory, it is killed like the pod's own processes, and not the pod before it.
        let score = text(Path::new(&format!("/proc/{pid}/oom_score_adj")));
        assert_eq!(score.trim(), OOM_SCORE_ADJ.to_string());
        let _ = std::process::Command::new("kill").args(["-9", pid]).status();
    }
    wait_until("its end", || kubelet.exit_status(&container) == 1);
    let said = kubelet.log(&first);
    assert!(said.contains("cannot compile `detector`") && said.contains("was killed"), "{said}");
    kubelet.remove(&container);

    let (is_done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let used = compiling().map_or(0, |cgroup| memory(&cgroup));
                peak.fetch_max(used, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        kubelet.run(&first, &wanted);
        // A slow machine compiles for minutes.
        let (began, url) = (Instant::now(), first.admin_url("/readyz"));
        while !client::is_ready(&url) && began.elapsed() < Duration::from_secs(300) {
            std::thread::sleep(Duration::from_millis(100));
        }
        is_done.store(true, Ordering::SeqCst);
    });
    kubelet.wait_until_ready(&first);
    let (peak, left) = (peak.into_inner(), private(&containerd));
    println!("compiling took {} MiB; afterwards, processes have {left:?} bytes", peak >> 20);
    assert!(peak > 100 << 20, "{peak} bytes were charged to the pod");
    assert!(!left.is_empty() && left.iter().all(|bytes| *bytes < 64 << 20), "{left:?}");
    let log = kubelet.log(&first);
    for line in ["Compiling `detector`, once for this node", "Compiled `detector` in "] {
        assert!(log.contains(line), "{log} lacks {line}");
    }

    let began = Instant::now();
    let (second, _) = kubelet.serve("second", &wanted);
    println!("the second pod was ready after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(!kubelet.log(&second).contains("Compiling"), "{}", kubelet.log(&second));
    for pod in [&first, &second] {
        kubelet.remove_pod(pod);
    }
    containerd.assert_nothing_left();
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_that_is_removed_while_it_compiles_leaves_nothing() {
    let containerd = Containerd::start_without_cache();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("removed");
    let container =
        kubelet.run(&pod, &Wanted { name: "detect", image: SCRATCH, ..Wanted::default() });
    wait_until("the compiler", || compiling().is_some());
    wait_until("the container", || kubelet.log(&pod).contains("Waiting for the compiler"));
    // SIGTERM ends it at once, and with it the compiler.
    let began = Instant::now();
    kubelet.stop(&container, 30);
    assert_eq!(kubelet.exit_status(&container), 0, "{}", kubelet.log(&pod));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    wait_until("the end of the compiler", || compiling().is_none());
    kubelet.remove_pod(&pod);
    let awaited = containerd.path("cache/spotter/pods");
    assert_eq!(std::fs::read_dir(awaited).expect("a folder").count(), 0);
    containerd.assert_nothing_left();
}

/// The pods' limits of a resource: the file of version 1 or 2 of cgroups, and a limit that is written to it until this
/// is dropped.
struct PodsLimit {
    file: PathBuf,
    none: &'static str,
}

impl PodsLimit {
    fn set(version_1: &str, version_2: &str, limit: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let (file, none) = match root.join("cgroup.controllers").exists() {
            true => (root.join("spotter-test").join(version_2), "max"),
            false => (root.join(version_1), "-1"),
        };
        std::fs::write(&file, limit).expect("a limit");
        Self { file, none }
    }
}

impl Drop for PodsLimit {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.file, self.none);
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_pod_that_is_too_small_for_the_compiler_has_it_beside_it_under_limits() {
    const MEMORY: u64 = 128 << 20;
    let containerd = Containerd::start_without_cache();
    let kubelet = Kubelet::of(&containerd);
    let pod = kubelet.run_pod("small");
    let _memory = PodsLimit::set(
        "memory/spotter-test/memory.limit_in_bytes",
        "memory.max",
        &MEMORY.to_string(),
    );
    let _cpu = PodsLimit::set("cpu/spotter-test/cpu.cfs_quota_us", "cpu.max", "70000");
    let container =
        kubelet.run(&pod, &Wanted { name: "detect", image: SCRATCH, ..Wanted::default() });
    let beside = || compiling_in(&["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]);
    wait_until("the compiler", || beside().is_some_and(|cgroup| memory(&cgroup) > 10 << 20));
    let cgroup = beside().expect("a cgroup");
    let limits = ["memory.limit_in_bytes", "memory.max"].map(|file| text(&cgroup.join(file)));
    let limit = limits.iter().find_map(|limit| limit.trim().parse::<u64>().ok());
    assert!(limit.is_some_and(|limit| (MEMORY..=2 << 30).contains(&limit)), "{limits:?}");
    let cpu = Path::new("/sys/fs/cgroup/cpu").join(cgroup.file_name().expect("a name"));
    let quota = [cpu.join("cpu.cfs_quota_us"), cgroup.join("cpu.max")].map(|file| text(&file));
    assert!(quota.iter().any(|quota| quota.starts_with("70000")), "{quota:?}");
    let processes = text(&cgroup.join("cgroup.procs"));
    assert!(!processes.is_empty(), "nothing compiles in {}", cgroup.display());
    for pid in processes.lines() {
        let score = text(Path::new(&format!("/proc/{pid}/oom_score_adj")));
        assert_eq!(score.trim(), OOM_SCORE_ADJ.to_string());
    }
    kubelet.stop(&container, 30);
    wait_until("the end of the compiler", || beside().is_none());
    kubelet.remove_pod(&pod);
    containerd.assert_nothing_left();
}
