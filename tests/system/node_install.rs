//! `spotter node install` against a real containerd: installation, upgrade, what is rolled back, and what is left.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use spotter_tests::containerd::{Containerd, SCRATCH, wait_until};
use spotter_tests::kubelet::{Kubelet, Pod, Processes, Wanted};
use spotter_tests::{client, pictures, run, spotter, stderr, stdout};

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

/// Runs `spotter node install` or `uninstall` on the node that a containerd stands for.
fn node(containerd: &Containerd, command: &str, further: &[&str]) -> Output {
    let path = |name: &str| containerd.path(name).display().to_string();
    let restart = containerd.restart_program().display().to_string();
    let socket = containerd.socket().display().to_string();
    let (config, bin) = (path("config.toml"), path("bin"));
    let mut arguments = vec!["node", command, "--containerd-config", &config];
    arguments.extend(["--containerd-socket", &socket, "--bin-dir", &bin]);
    arguments.extend(["--restart", &restart, "--timeout", "10s"]);
    arguments.extend(further);
    run(&arguments)
}

fn sure(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

fn config(containerd: &Containerd) -> String {
    fs::read_to_string(containerd.path("config.toml")).expect("a file")
}

fn detect(pod: &Pod) -> u16 {
    client::post_picture(&pod.url("/detect"), &pictures::bytes("skimage_chelsea.png")).status
}

/// The number of the file that the shim of a pod runs.
fn program_of(containerd: &Containerd, pod: &Pod) -> u64 {
    let pid = containerd.shim(&pod.id).expect("a shim");
    fs::metadata(format!("/proc/{pid}/exe")).expect("a program").ino()
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_node_is_installed_upgraded_beside_a_running_pod_and_cleared_without_a_trace() {
    let containerd = Containerd::start_without_shim();
    let (before, first) = (config(&containerd), containerd.process_id());
    let said = sure(&node(&containerd, "install", &[]));
    assert!(said.contains("containerd is healthy after"), "{said}");
    let installed = containerd.process_id();
    assert_ne!(first, installed);
    let kubelet = Kubelet::of(&containerd);
    let (old, _) = kubelet.serve("old", &FUNCTION);
    assert_eq!(detect(&old), 200);

    // A newer shim: the same one, with a byte behind its end.
    let (shim, newer) =
        (containerd.path("bin/containerd-shim-spotter-v1"), containerd.path("newer"));
    let mut bytes = fs::read(&shim).expect("a shim");
    bytes.push(0);
    fs::write(&newer, bytes).expect("a file");
    let said = sure(&node(&containerd, "install", &["--binary", newer.to_str().expect("a path")]));
    assert!(said.contains("writing") && !said.contains("running "), "{said}");
    assert_eq!(containerd.process_id(), installed, "containerd was restarted for a shim");
    assert_eq!(detect(&old), 200);
    let installed_file = fs::metadata(&shim).expect("a shim").ino();
    assert_ne!(program_of(&containerd, &old), installed_file);
    // The pod gets a further container, and other pods the new shim.
    let sidecar = Wanted {
        name: "second",
        environment: &[
            ("SPIN_HTTP_LISTEN_ADDR", "0.0.0.0:8081"),
            ("SPOTTER_ADMIN", "0.0.0.0:3002"),
        ],
        ..FUNCTION
    };
    kubelet.run(&old, &sidecar);
    wait_until("the second container serves", || {
        client::try_send("GET", &old.url(":8081/labels"), &[], &[]).is_ok()
    });
    let (new, _) = kubelet.serve("new", &FUNCTION);
    assert_eq!(program_of(&containerd, &new), installed_file);
    assert_eq!((detect(&old), detect(&new)), (200, 200));

    let refused = node(&containerd, "uninstall", &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("pods run with the shim") && said.contains("default/old"), "{said}");
    assert_eq!((detect(&old), detect(&new)), (200, 200));
    kubelet.remove_pod(&old);
    kubelet.remove_pod(&new);
    sure(&node(&containerd, "uninstall", &[]));
    assert_eq!(config(&containerd), before);
    assert_ne!(containerd.process_id(), installed);
    let left = fs::read_dir(containerd.path("bin")).expect("a folder").count();
    assert!(left == 0 && !containerd.path("config.toml.spotter-pending").exists());
    containerd.assert_nothing_left();
}

/// Whether containerd runs with this configuration, and nothing of an installation is left.
fn is_as_before(containerd: &Containerd, before: &str) -> bool {
    config(containerd) == before
        && !containerd.path("bin/containerd-shim-spotter-v1").exists()
        && !containerd.path("config.toml.spotter-pending").exists()
        && containerd.ctr(&["version"]).status.success()
}

/// containerd starts, but without the runtime: an import that the installer does not follow replaces the section.
fn an_import_that_hides_the_runtime_is_rolled_back(containerd: &Containerd, before: &str) {
    let section = before.find("[plugins.").expect("a section");
    let folder = containerd.path("conf.d");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("cri.toml"), format!("version = 2\n{}", &before[section..]))
        .expect("a file");
    let pattern = containerd.path("conf.*/cri.toml").display().to_string();
    let importing = before.replacen('\n', &format!("\nimports = [{pattern:?}]\n"), 1);
    fs::write(containerd.path("config.toml"), &importing).expect("a file");
    let restarted = Command::new(containerd.restart_program()).status();
    assert!(restarted.is_ok_and(|status| status.success()));
    wait_until("containerd answers", || containerd.ctr(&["version"]).status.success());
    let refused = node(containerd, "install", &[]);
    let said = stderr(&refused);
    assert!(said.contains("running configuration has no runtime `spotter`"), "{said}");
    assert!(is_as_before(containerd, &importing), "{said}");
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn a_configuration_that_fails_is_rolled_back_and_containerd_runs_on() {
    let containerd = Containerd::start_without_shim();
    // containerd does not start with it.
    let before = config(&containerd);
    fs::write(containerd.path("refuse"), "").expect("a file");
    let refused = node(&containerd, "install", &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("containerd does not start today"), "{said}");
    assert!(said.contains("the old one is restored, and containerd is healthy"), "{said}");
    assert!(is_as_before(&containerd, &before), "{said}");
    fs::remove_file(containerd.path("refuse")).expect("a file");

    // Only containerd 1 lets an import replace the whole section: containerd 2 merges them.
    let importing = if before.starts_with("version = 2\n") {
        an_import_that_hides_the_runtime_is_rolled_back(&containerd, &before);
        config(&containerd)
    } else {
        before
    };

    // It would not even load, because someone has changed it since containerd started. Then it is not restarted.
    let running = containerd.process_id();
    let broken = importing.replacen('\n', "\noom_score = \"high\"\n", 1);
    fs::write(containerd.path("config.toml"), &broken).expect("a file");
    let refused = node(&containerd, "install", &[]);
    let said = stderr(&refused);
    assert!(said.contains("containerd would not load the configuration"), "{said}");
    assert!(is_as_before(&containerd, &broken) && containerd.process_id() == running, "{said}");
}

/// A process in its own mount namespace, as a node and a container on it have different ones.
struct OtherFiles(Child);

impl OtherFiles {
    fn start() -> Self {
        let script = "mount -t tmpfs none /mnt && mkdir /mnt/bin && echo ready && exec sleep 600";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("unshare starts");
        let mut output = std::io::BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for OtherFiles {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn an_installer_in_a_container_changes_the_files_of_the_node() {
    let node = OtherFiles::start();
    let at = |path: &str| PathBuf::from(format!("/proc/{}/root/mnt/{path}", node.0.id()));
    let pid = node.0.id().to_string();
    let further = ["--containerd-config", "/mnt/config.toml", "--bin-dir", "/mnt/bin"];
    let mut arguments = vec!["node", "install", "--enter", &pid, "--no-restart"];
    arguments.extend(further);
    sure(&run(&arguments));
    assert!(!PathBuf::from("/mnt/config.toml").exists());
    let text = fs::read_to_string(at("config.toml")).expect("a file");
    assert!(text.contains("runtimes.spotter]"), "{text}");
    let shim = spotter().with_file_name("containerd-shim-spotter-v1");
    assert!(fs::read(at("bin/containerd-shim-spotter-v1")).ok() == fs::read(shim).ok());
    // A program that does not run there is found before anything is changed.
    let broken = std::env::temp_dir().join(format!("broken-shim-{pid}"));
    fs::write(&broken, b"\x7fELF and nothing else").expect("a file");
    arguments.extend(["--binary", broken.to_str().expect("a path")]);
    let refused = run(&arguments);
    fs::remove_file(&broken).expect("a file");
    let said = stderr(&refused);
    assert!(said.contains("the shim does not run on this node, so nothing was changed"), "{said}");
    assert_eq!(fs::read_dir(at("bin")).expect("a folder").count(), 1);
    let mut arguments = vec!["node", "uninstall", "--enter", &pid, "--no-restart"];
    arguments.extend(further);
    sure(&run(&arguments));
    assert!(!at("config.toml").exists() && !at("bin/containerd-shim-spotter-v1").exists());
}
