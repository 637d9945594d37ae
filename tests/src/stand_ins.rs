//! Stand-ins for LXC and other programs that `make-node` calls. They keep a container's state in files, and can end
//! `make-node` after any step, as a machine that loses its power does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::root;

/// Counts the step that a stand-in has taken. After the step `$BREAK_AFTER`, kills `make-node`.
const COUNT: &str = r#"
n=$(($(cat "$STATE/steps" 2>/dev/null || echo 0) + 1)); echo $n >"$STATE/steps"
[ "$n" != "$BREAK_AFTER" ] || { kill -9 "$(cat "$STATE/make-node")"; exit 1; }
"#;

/// Programs that work as usual.
const REAL: [&str; 4] = ["install", "mkdir", "mv", "tar"];

/// The others, and what they do. `lxc-start` keeps a copy of what the container was started with.
const PRETENDED: [(&str, &str); 8] = [
    ("sysctl", ""),
    (
        "systemctl",
        r#"wants=${2#--root=}/etc/systemd/system/multi-user.target.wants
/usr/bin/mkdir -p "$wants" && /usr/bin/ln -sf "../$4" "$wants/$4""#,
    ),
    ("debootstrap", r#"/usr/bin/mkdir -p "$4/etc/containerd" && echo 12 >"$4/etc/debian_version""#),
    ("lxc-info", r#"cat "$STATE/container" || exit 1"#),
    ("lxc-wait", ""),
    (
        "lxc-start",
        r#"rm -rf "$STATE/started" && cp -a "$2/$4" "$STATE/started" && echo RUNNING >"$STATE/container""#,
    ),
    (
        "lxc-attach",
        r#"[ "$6" != systemctl ] || echo STOPPED >"$STATE/container"
[ "$6" != ctr ] || grep -q RUNNING "$STATE/container" || exit 1"#,
    ),
    // What a real one does to files, so that copies are small: it adds a line and a program.
    (
        "spotter",
        r#"[ "$1" = shim ] || exit 0
case $(cat "$4") in *spotter*) echo "nothing to do"; exit 0 ;; esac
case $* in *--dry-run*) exit 0 ;; esac
/usr/bin/mkdir -p "$6" && echo shim >"$6/containerd-shim-spotter-v1" && echo spotter >>"$4""#,
    ),
];

/// A machine on which `make-node` runs, and its only container.
pub struct Machine(TempDir);

impl Machine {
    pub fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("a folder"));
        for folder in ["bin", "state", "lxc", "cache"] {
            fs::create_dir(machine.path(folder)).expect("a folder");
        }
        for (name, script) in PRETENDED {
            machine.program(name, &format!("{script}\n{COUNT}"));
        }
        for name in REAL {
            machine.program(name, &format!("/usr/bin/{name} \"$@\" || exit 1\n{COUNT}"));
        }
        machine.program("containerd-shim-spotter-v1", "");
        machine
    }

    /// A path below the machine's folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join(relative)
    }

    /// Adds a stand-in for a program.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }

    /// Runs `make-node` with these further arguments. After the step with this number, it is killed; 0 for never.
    pub fn make_node(&self, further: &[&str], break_after: u32) -> Output {
        let _ = fs::remove_file(self.path("state/steps"));
        // The shell becomes make-node, and keeps its process id.
        let script = r#"echo $$ >"$STATE/make-node"; exec "$@""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(root().join("k8s/node/make-node"));
        command.args(["node1", "--address", "10.0.0.11/24", "--bridge", "lo", "--dns", "10.0.0.1"]);
        for (option, folder) in
            [("--lxcpath", "lxc"), ("--cache", "cache"), ("--spotter", "bin/spotter")]
        {
            command.arg(option).arg(self.path(folder));
        }
        command.args(further);
        // Without /usr/sbin, where the real ones are.
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        command.env("STATE", self.path("state")).env("BREAK_AFTER", break_after.to_string());
        command.output().expect("make-node starts")
    }

    /// A program that runs `make-node` here with its arguments.
    pub fn wrapper(&self) -> String {
        let path = |relative: &str| self.path(relative).display().to_string();
        format!(
            "#!/bin/sh\nexport PATH={}:/usr/bin:/bin STATE={} BREAK_AFTER=0\n\
             exec {}/k8s/node/make-node \"$@\" --bridge lo --dns 10.0.0.1 --lxcpath {} --cache {} --spotter {}\n",
            path("bin"),
            path("state"),
            root().display(),
            path("lxc"),
            path("cache"),
            path("bin/spotter"),
        )
    }

    /// How the files of the running container differ from those that it was started with.
    pub fn stale(&self) -> String {
        let state = fs::read_to_string(self.path("state/container")).unwrap_or_default();
        assert_eq!(state, "RUNNING\n");
        let mut command = Command::new("diff");
        command.args(["-r", "-x", "restart-pending", "-x", "lxc.log"]);
        command.args([self.path("lxc/node1"), self.path("state/started")]);
        crate::stdout(&command.output().expect("diff"))
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}
