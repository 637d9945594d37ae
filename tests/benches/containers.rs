//! Compares a pod of the shim with a Python container that runs the same network, under one containerd:
//! `cargo bench --features system --bench containers`, as root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use spotter_tests::containerd::{Containerd, SCRATCH, scratch_image};
use spotter_tests::network::Network;
use spotter_tests::{client, peer, pictures, root, stderr, system};

/// Turns, each with both containers, so that other work on the machine affects both.
const ROUNDS: u32 = 5;

/// The command of the Python container: gunicorn with two workers.
const PYTHON: [&str; 9] =
    ["python3", "-m", "gunicorn", "--workers", "2", "--bind", "0.0.0.0:80", "--chdir", "/srv"];

fn main() {
    let containerd = Containerd::start();
    let python = python_root();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(measure(&containerd, &Network::new(2 * round), |network| {
            let ran = containerd.run(SCRATCH, "spotter-test-ours", network, &[]);
            assert!(ran.status.success(), "{}", stderr(&ran));
            "spotter-test-ours"
        }));
        theirs.push(measure(&containerd, &Network::new(2 * round + 1), |network| {
            run_python(&containerd, &python, network);
            "spotter-test-python"
        }));
    }
    println!(
        "| | image | image, gzip | start to first detection | memory, then |\n|---|---|---|---|---|"
    );
    let compressed = std::fs::metadata(scratch_image()).expect("an image").len();
    let component = std::fs::metadata(spotter_tests::component()).expect("a component").len();
    row("a pod of the shim", component, compressed, &ours);
    row("Flask + gunicorn + ONNX Runtime, runc", bytes_of(&python), zipped(&python), &theirs);
    let ratio = |of: fn(&Run) -> f64| median(&theirs, of) / median(&ours, of);
    println!(
        "| ratio | | | {:.0} | {:.0} |",
        ratio(|run| run.milliseconds),
        ratio(|run| run.memory)
    );
}

/// The time until the first detection, and the memory of all processes after it.
struct Run {
    milliseconds: f64,
    memory: f64,
}

fn measure<'a>(
    containerd: &Containerd,
    network: &Network,
    start: impl FnOnce(&Network) -> &'a str,
) -> Run {
    let picture = pictures::bytes("skimage_chelsea.png");
    let url = network.url("/detect");
    let began = Instant::now();
    let id = start(network);
    let answered = || {
        client::try_send("POST", &url, &[("content-type", "image/png")], &picture)
            .is_ok_and(|reply| reply.status == 200)
    };
    while !answered() {
        assert!(
            began.elapsed().as_secs() < 60,
            "{id} does not answer: {}",
            containerd.container_log(id)
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
    let memory = memory_of(containerd.pid(id).expect("a process"));
    containerd.stop(id, "SIGKILL");
    Run { milliseconds, memory }
}

/// The sum of the proportional shares of memory of all processes in the cgroup of `pid`, in MiB.
fn memory_of(pid: u32) -> f64 {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
    let path = groups.lines().find_map(|line| line.split_once(":pids:")).expect("a cgroup").1;
    let processes = std::fs::read_to_string(format!("/sys/fs/cgroup/pids{path}/cgroup.procs"));
    let share = |pid: &str| {
        let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("memory");
        let line = memory.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a share");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number")
    };
    processes.expect("processes").lines().map(share).sum::<f64>() / 1024.0
}

fn run_python(containerd: &Containerd, root: &Path, network: &Network) {
    let namespace = format!("network:{}", network.path().display());
    let log = format!("file://{}", containerd.path("spotter-test-python").display());
    let root = root.to_str().expect("a path");
    let mut arguments =
        vec!["run", "--detach", "--rootfs", "--with-ns", &namespace, "--log-uri", &log];
    for variable in [
        "PYTHONPATH=/opt/packages",
        "MODEL=/srv/model.onnx",
        "LABELS=/srv/labels.txt",
        "PATH=/usr/bin:/bin",
    ] {
        arguments.extend(["--env", variable]);
    }
    arguments.extend([root, "spotter-test-python"]);
    arguments.extend(PYTHON);
    arguments.push("flask_onnxruntime:app");
    let ran = containerd.ctr(&arguments);
    assert!(ran.status.success(), "{}", stderr(&ran));
}

/// Creates a root file system: Debian's smallest system, with Python and the peer.
fn python_root() -> PathBuf {
    let folder = peer::cache().join("root");
    if !folder.join("srv/labels.txt").exists() {
        let made = Command::new(system::program("debootstrap", "debootstrap"))
            .args(["--variant=minbase", "--include=python3", "bookworm"])
            .arg(&folder)
            .status();
        assert!(made.is_ok_and(|status| status.success()), "debootstrap failed");
        let copy = |from: &Path, to: &str| {
            let copied = Command::new("cp").arg("-rT").arg(from).arg(folder.join(to)).status();
            assert!(copied.is_ok_and(|status| status.success()), "cannot copy {}", from.display());
        };
        copy(&peer::flask_packages(), "opt/packages");
        for script in ["flask_onnxruntime.py", "suppression.py"] {
            let peers = root().join("tests/benches/peers");
            copy(&peers.join(script), &format!("srv/{script}"));
        }
        let model = root().join("function/model/ssdlite_mobilenet_v2");
        copy(&model.join("model.onnx"), "srv/model.onnx");
        copy(&model.join("labels.txt"), "srv/labels.txt");
    }
    folder
}

fn bytes_of(folder: &Path) -> u64 {
    let output = Command::new("du").arg("-sb").arg(folder).output().expect("du starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number")
}

fn zipped(folder: &Path) -> u64 {
    let line = format!("tar c -C {} . | gzip -6 | wc -c", folder.display());
    let output = Command::new("sh").args(["-c", &line]).output().expect("sh starts");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

fn median(runs: &[Run], of: fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(name: &str, image: u64, compressed: u64, runs: &[Run]) {
    println!(
        "| {name} | {} MB | {} MB | {:.0} ms | {:.0} MB |",
        image / 1_000_000,
        compressed / 1_000_000,
        median(runs, |run| run.milliseconds),
        median(runs, |run| run.memory),
    );
}
