//! `spotter node install` on folders that stand for a node's root, with every layout of containerd's configuration.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use spotter_tests::{elf, run, spotter, stderr, stdout};
use tempfile::TempDir;

use crate::stand_in_containerd::StandInContainerd;

const CONFIG: &str = "etc/containerd/config.toml";
const DROP_IN: &str = "etc/containerd/conf.d/spotter.toml";
const JOURNAL: &str = "etc/containerd/config.toml.spotter-pending";
const SHIM: &str = "usr/local/bin/containerd-shim-spotter-v1";

/// The configuration of Debian's containerd 1.6, with comments.
const DEBIAN_1_6: &str = r#"# Ours: see the wiki
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.example.com/pause:3.9" # mirrored
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
"#;
const IMPORTING_1_7: &str = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"a\" # replaced by the import\n";
const REPLACING_1_7: &str = "# the whole section\nversion = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"b\"\n";
const UNRELATED: &str = "version = 2\n[metrics]\n  address = \"127.0.0.1:1338\"\n";
const IMPORTING_2: &str = "version = 3\n# distribution's\nimports = ['conf.d/*.toml']\n\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = 'registry.k8s.io/pause:3.10'\n";
const PLAIN_2: &str = "version = 3\n\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n  default_runtime_name = 'crun'\n  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]\n    runtime_type = 'io.containerd.runc.v2' # crun\n";
const PLAIN_2_3: &str = "version = 4\nroot = '/data'\n";

/// A folder that stands for the root of a node, with a shim to install.
pub(crate) struct StandInNode(TempDir);

impl StandInNode {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let node = Self(tempfile::tempdir().expect("a folder"));
        for folder in ["root/etc/containerd", "root/usr/local/bin"] {
            fs::create_dir_all(node.0.path().join(folder)).expect("a folder");
        }
        for (path, text) in files {
            node.write(path, text.as_bytes());
        }
        fs::write(node.0.path().join("shim"), elf::amd64()).expect("a file");
        node
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join("root").join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("a file")
    }

    /// All files and folders, with the content of files.
    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        tree(&self.path(""))
    }

    fn arguments(&self, command: &str, further: &[&str]) -> Vec<String> {
        let mut words = vec!["node".to_owned(), command.to_owned()];
        words.extend(["--root".to_owned(), self.path("").display().to_string()]);
        if command == "install" {
            words.extend(["--binary".to_owned(), self.0.path().join("shim").display().to_string()]);
        }
        words.extend(further.iter().map(|word| (*word).to_owned()));
        words
    }

    fn run(&self, command: &str, further: &[&str]) -> Output {
        let words = self.arguments(command, further);
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs the command, which must succeed, and returns its output.
    fn sure(&self, command: &str, further: &[&str]) -> String {
        let ran = self.run(command, further);
        assert!(ran.status.success(), "{}", stderr(&ran));
        stdout(&ran) + &stderr(&ran)
    }
}

fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().expect("a type").is_dir();
            let content = if is_folder { Vec::new() } else { fs::read(&path).unwrap_or_default() };
            found.insert(path.display().to_string(), content);
            if is_folder {
                folders.push(path);
            }
        }
    }
    found
}

#[test]
fn the_runtime_is_added_where_containerd_reads_it_and_taken_off_without_a_trace() {
    let (import, other) =
        ("etc/containerd/conf.d/50-cri.toml", "etc/containerd/conf.d/metrics.toml");
    // The node's files, and the one that gets the runtime.
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[], CONFIG),
        (&[(CONFIG, DEBIAN_1_6)], CONFIG),
        // Before containerd 2, the last file with the plugin's section replaces those before.
        (&[(CONFIG, IMPORTING_1_7), (import, REPLACING_1_7)], import),
        (&[(CONFIG, IMPORTING_1_7), (other, UNRELATED)], CONFIG),
        (&[(CONFIG, IMPORTING_2)], DROP_IN),
        (&[(CONFIG, IMPORTING_2), (other, "version = 3\n")], DROP_IN),
        (&[(CONFIG, PLAIN_2)], CONFIG),
        (&[(CONFIG, PLAIN_2_3)], CONFIG),
        (&[(CONFIG, UNRELATED)], CONFIG),
    ];
    for (files, changed) in cases {
        let node = StandInNode::with(files);
        let before = node.tree();
        let said = node.sure("install", &["--dry-run"]);
        assert!(said.contains("+runtime_type = \"io.containerd.spotter.v1\""), "{said}");
        assert_eq!(node.tree(), before, "a dry run of {files:?}");

        let said = node.sure("install", &[]);
        assert!(said.contains("restart containerd"), "{said}");
        let text = node.read(changed);
        assert!(text.contains(".containerd.runtimes.spotter]\nruntime_type"), "{changed}: {text}");
        // Every line is still there, in its order.
        let old = files.iter().find(|(path, _)| *path == changed).map_or("", |(_, text)| text);
        let mut lines = text.lines();
        assert!(old.lines().all(|line| lines.any(|other| other == line)), "{text}");
        let has_runtime = text.matches(".containerd.runtimes.").count();
        assert!(has_runtime > 1, "the table of runtimes has no other than `spotter`: {text}");
        for (path, text) in files.iter().filter(|(path, _)| *path != changed) {
            assert_eq!(node.read(path), *text, "{path}");
        }
        let mode = fs::metadata(node.path(SHIM)).expect("a shim").permissions().mode();
        assert_eq!(
            (fs::read(node.path(SHIM)).expect("a shim"), mode & 0o777),
            (elf::amd64(), 0o755)
        );

        let installed = node.tree();
        assert!(node.sure("install", &[]).contains("nothing to do"));
        assert_eq!(node.tree(), installed);
        node.sure("uninstall", &[]);
        assert_eq!(node.tree(), before, "{files:?}");
        assert!(node.sure("uninstall", &[]).contains("nothing to do"));
    }
}

#[test]
fn a_configuration_that_is_not_understood_is_left_alone_and_the_error_says_why() {
    let import = "etc/containerd/conf.d/a.toml";
    let generated = format!("# File generated by k3s. DO NOT EDIT.\n{DEBIAN_1_6}");
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[(CONFIG, "version = 2\n[plugins\n")], "not TOML"),
        (&[(CONFIG, IMPORTING_2), (import, "version = \"")], "conf.d/a.toml"),
        (&[(CONFIG, "root = \"/x\"\n")], "version 1"),
        (&[(CONFIG, "version = 5\n")], "version 5"),
        (&[(CONFIG, "version = 2\nplugins = 7\n")], "`plugins` is not a table"),
        (&[(CONFIG, &generated)], "DO NOT EDIT"),
    ];
    for (files, reason) in cases {
        let node = StandInNode::with(files);
        let before = node.tree();
        let refused = node.run("install", &[]);
        assert_eq!(refused.status.code(), Some(1), "{files:?}");
        assert!(stderr(&refused).contains(reason), "{}", stderr(&refused));
        assert_eq!(node.tree(), before, "{files:?}");
    }
    // A link that leads out of the node's root would be resolved in the installer's own.
    let node = StandInNode::with(&[]);
    let outside = tempfile::NamedTempFile::new().expect("a file");
    symlink(outside.path(), node.path(CONFIG)).expect("a link");
    let refused = node.run("install", &[]);
    assert!(stderr(&refused).contains("is a link to"), "{}", stderr(&refused));
    // A link within the root stays one, and its target is changed.
    let node = StandInNode::with(&[("etc/real.toml", DEBIAN_1_6)]);
    symlink("../real.toml", node.path(CONFIG)).expect("a link");
    node.sure("install", &[]);
    assert!(node.read("etc/real.toml").contains("runtimes.spotter]"));
    assert!(fs::symlink_metadata(node.path(CONFIG)).expect("a link").is_symlink());
}

#[test]
fn a_node_whose_files_cannot_be_written_is_as_before() {
    for folder in ["etc/containerd", "usr/local/bin"] {
        let node = StandInNode::with(&[(CONFIG, DEBIAN_1_6)]);
        let before = node.tree();
        // Root may write anywhere, so be someone else.
        for open in
            [node.0.path().to_owned(), node.path("usr/local/bin"), node.path("etc/containerd")]
        {
            fs::set_permissions(open, Permissions::from_mode(0o777)).expect("permissions");
        }
        fs::set_permissions(node.path(folder), Permissions::from_mode(0o555)).expect("permissions");
        let is_root = fs::metadata("/proc/self")
            .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let mut command = Command::new(if is_root { Path::new("setpriv") } else { spotter() });
        if is_root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(spotter());
        }
        let refused =
            command.args(node.arguments("install", &[])).output().expect("spotter starts");
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("cannot write"), "{}", stderr(&refused));
        fs::set_permissions(node.path(folder), Permissions::from_mode(0o755)).expect("permissions");
        assert_eq!(node.tree(), before, "{folder}");
    }
}

#[test]
fn containerd_is_restarted_only_if_its_configuration_changed() {
    let containerd = StandInContainerd::with(&[(CONFIG, DEBIAN_1_6)]);
    let node = &containerd.node;
    let said = node.sure("install", &containerd.arguments());
    assert!(said.contains("containerd is healthy after"), "{said}");
    assert_eq!(containerd.restarts(), 1);
    // Only the shim is new.
    let mut newer = elf::amd64();
    newer.push(0);
    fs::write(node.0.path().join("shim"), &newer).expect("a file");
    node.sure("install", &containerd.arguments());
    assert_eq!(fs::read(node.path(SHIM)).expect("a shim"), newer);
    node.sure("install", &containerd.arguments());
    assert_eq!(containerd.restarts(), 1);

    // It cannot be removed while pods use it.
    fs::write(node.path("pods"), "").expect("a file");
    let installed = node.tree();
    let refused = node.run("uninstall", &containerd.arguments());
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("delete them first: spotter/detect\n"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(node.tree(), installed);
    fs::remove_file(node.path("pods")).expect("a file");
    node.sure("uninstall", &containerd.arguments());
    assert_eq!(containerd.restarts(), 2);
    assert!(node.read(CONFIG) == DEBIAN_1_6 && !node.path(SHIM).exists());
}

#[test]
fn a_configuration_with_which_containerd_does_not_run_well_is_taken_back() {
    let containerd = StandInContainerd::with(&[(CONFIG, DEBIAN_1_6)]);
    let node = &containerd.node;
    fs::write(node.path("dislikes-spotter"), "").expect("a file");
    fs::write(node.path(SHIM), "older").expect("a file");
    let refused = node.run("install", &containerd.arguments());
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(said.contains("the old one is restored, and containerd is healthy"), "{said}");
    assert!(said.contains("containerd is not ready: it dislikes this"), "{said}");
    assert_eq!((node.read(CONFIG).as_str(), node.read(SHIM).as_str()), (DEBIAN_1_6, "older"));
    assert_eq!((containerd.restarts(), containerd.runs_with()), (2, DEBIAN_1_6.to_owned()));
    assert_eq!(fs::read_dir(node.path("etc/containerd")).expect("a folder").count(), 1);
}

#[test]
fn a_run_that_broke_off_is_taken_back_by_the_next_one() {
    let containerd = StandInContainerd::with(&[(CONFIG, DEBIAN_1_6)]);
    let node = &containerd.node;
    fs::write(node.path("kills-installer"), "").expect("a file");
    let killed = node.run("install", &containerd.arguments());
    assert_eq!(killed.status.code(), None, "{}", stderr(&killed));
    assert!(node.read(CONFIG).contains("runtimes.spotter]") && containerd.restarts() == 0);
    // The configuration may have secrets.
    let journal = fs::metadata(node.path(JOURNAL)).expect("a journal");
    assert_eq!(journal.permissions().mode() & 0o777, 0o600);
    fs::remove_file(node.path("kills-installer")).expect("a file");
    // Without that restart, the next run would find nothing to do, and containerd would not know the runtime.
    let said = node.sure("install", &containerd.arguments());
    assert!(said.contains("an earlier run was interrupted"), "{said}");
    assert!(containerd.runs_with().contains("runtimes.spotter]"));
    node.sure("uninstall", &containerd.arguments());
    assert_eq!(node.read(CONFIG), DEBIAN_1_6);
    assert_eq!(fs::read_dir(node.path("etc/containerd")).expect("a folder").count(), 1);
}

#[test]
fn what_others_changed_since_an_interrupted_run_is_not_taken_back() {
    let containerd = StandInContainerd::with(&[(CONFIG, DEBIAN_1_6)]);
    let node = &containerd.node;
    fs::write(node.path("kills-installer"), "").expect("a file");
    assert_eq!(node.run("install", &containerd.arguments()).status.code(), None);
    fs::remove_file(node.path("kills-installer")).expect("a file");
    let edited = format!("{}\n# by hand\n", node.read(CONFIG));
    fs::write(node.path(CONFIG), &edited).expect("a file");
    let refused = node.run("install", &containerd.arguments());
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("was changed after the run") && said.contains(JOURNAL), "{said}");
    assert_eq!(node.read(CONFIG), edited);
    fs::remove_file(node.path(JOURNAL)).expect("the journal");
    node.sure("install", &containerd.arguments());
}

#[test]
fn a_node_whose_containerd_is_not_well_is_not_touched() {
    let containerd = StandInContainerd::with(&[(CONFIG, DEBIAN_1_6)]);
    let node = &containerd.node;
    let before = node.tree();
    let elsewhere = ["--containerd-socket", "/run/other.sock", "--restart", "true"];
    for command in ["install", "uninstall"] {
        let refused = node.run(command, &elsewhere);
        let said = stderr(&refused);
        if command == "install" {
            assert_eq!(refused.status.code(), Some(1));
            assert!(said.contains("containerd is not healthy, so nothing was changed"), "{said}");
            assert!(said.contains("/run/other.sock"), "{said}");
        }
        assert_eq!(node.tree(), before);
    }
    // In the same mount namespace, there is nothing to enter.
    let own = std::process::id().to_string();
    let refused = run(&["node", "install", "--enter", &own, "--binary", "/bin/true"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("hostPID: true"), "{}", stderr(&refused));
}
