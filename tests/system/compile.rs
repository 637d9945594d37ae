//! The first pod of an image on a node: what it compiles, where, and what is left of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use spotter_tests::containerd::{Containerd, SCRATCH, wait_until};
use spotter_tests::kubelet::{Kubelet, OOM_SCORE_ADJ, Pod, Wanted};
use spotter_tests::{client, leftovers, pictures};

/// The cgroup in which a pod compiles, while it does.
pub(crate) fn compiling() -> Option<PathBuf> {
    compiling_in(&[
        "/sys/fs/cgroup/memory/spotter-test",
        "/sys/fs/cgroup/spotter-test",
        "/sys/fs/cgroup/spotter.slice/spotter-test.slice",
    ])
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

/// The most memory that compilers took at a time, in bytes, read twenty times a second.
pub(crate) struct PeakOfCompilers {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl PeakOfCompilers {
    pub(crate) fn watch() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !seen.load(Ordering::SeqCst) {
                peak = peak.max(compiling().map_or(0, |cgroup| memory(&cgroup)));
                std::thread::sleep(Duration::from_millis(50));
            }
            peak
        });
        Self { is_over, thread }
    }

    pub(crate) fn end(self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("a peak")
    }
}

/// The private memory of each process of the shim, in bytes.
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

    let peak = PeakOfCompilers::watch();
    kubelet.run(&first, &wanted);
    kubelet.wait_until_ready(&first);
    let (peak, left) = (peak.end(), private(&containerd));
    println!("compiling took {} MiB; afterwards, processes have {left:?} bytes", peak >> 20);
    assert!((100 << 20..200 << 20).contains(&peak), "{peak} bytes were charged to the pod");
    assert!(!left.is_empty() && left.iter().all(|bytes| *bytes < 64 << 20), "{left:?}");
    let log = kubelet.log(&first);
    for line in ["Compiling `detector`, once for this node", "Compiled `detector` in "] {
        assert!(log.contains(line), "{log} lacks {line}");
    }

    let (second, _) = kubelet.serve("second", &wanted);
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

/// How long a pod took for each step: its sandbox, the container's creation, its start, until it was ready, and until
/// it had answered a picture.
#[derive(Debug)]
struct Steps([Duration; 5]);

impl Steps {
    /// Runs a pod with one function, and sends it a picture.
    fn of(kubelet: &Kubelet, name: &str, wanted: &Wanted<'_>) -> (Pod, Self) {
        let picture = pictures::bytes("skimage_chelsea.png");
        let mut began = Instant::now();
        let mut step = || std::mem::replace(&mut began, Instant::now()).elapsed();
        let pod = kubelet.run_pod(name);
        let sandbox = step();
        let container = kubelet.create(&pod, wanted).expect("a container");
        let created = step();
        kubelet.start(&container).expect("a start");
        let started = step();
        kubelet.wait_until_ready(&pod);
        let ready = step();
        assert_eq!(client::post_picture(&pod.url("/detect"), &picture).status, 200);
        (pod, Self([sandbox, created, started, ready, step()]))
    }

    fn until_ready(&self) -> Duration {
        self.0[..4].iter().sum()
    }

    /// From the request to create the container, which is the first that this shim gets for it.
    fn of_the_container(&self) -> Duration {
        self.0[1..4].iter().sum()
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_second_pod_of_an_image_is_ready_in_less_than_a_second() {
    const PODS: usize = 7;
    let containerd = Containerd::start();
    let kubelet = Kubelet::of(&containerd);
    let wanted = Wanted { name: "detect", image: SCRATCH, ..Wanted::default() };
    let (first, _) = kubelet.serve("first", &wanted);
    let name = |number| format!("next-{number}");
    let mut next: Vec<(Pod, Steps)> =
        (0..PODS).map(|number| Steps::of(&kubelet, &name(number), &wanted)).collect();
    println!("sandbox, create, start, ready, answer:");
    for (_, steps) in &next {
        println!("{:?}: ready after {:?}", steps.0, steps.until_ready());
    }
    // Other work on the machine can only delay them.
    next.sort_by_key(|(_, steps)| steps.until_ready());
    println!("half of them after {:?}", next[PODS / 2].1.until_ready());
    let fastest = &next[0].1;
    assert!(fastest.until_ready() < Duration::from_secs(1), "{fastest:?}");
    assert!(fastest.of_the_container() < Duration::from_millis(700), "{fastest:?}");
    for (pod, _) in next {
        kubelet.remove_pod(&pod);
    }
    kubelet.remove_pod(&first);
    containerd.assert_nothing_left();
}
