//! The configuration of a test's containerd, in the version that its release writes by default.

use std::process::Command;

/// The paths and names that a configuration holds.
pub(crate) struct Config {
    pub(crate) root: String,
    pub(crate) state: String,
    pub(crate) socket: String,
    /// The folder of the network configurations.
    pub(crate) cni: String,
    /// The image of a pod's sandbox.
    pub(crate) pause: &'static str,
}

impl Config {
    /// For the containerd on the `PATH`.
    pub(crate) fn text(&self) -> String {
        let Self { root, state, socket, .. } = self;
        let (version, plugins) =
            if major_version() < 2 { (2, self.version_2()) } else { (3, self.version_3()) };
        format!(
            r#"version = {version}
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
{plugins}"#
        )
    }

    /// The plugins of containerd 1.6 and 1.7. The machines of these tests lack CAP_SYS_RESOURCE and AppArmor.
    fn version_2(&self) -> String {
        let Self { cni, pause, .. } = self;
        format!(
            r#"[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#
        )
    }

    /// The same for containerd 2.
    fn version_3(&self) -> String {
        let Self { cni, pause, .. } = self;
        format!(
            r#"[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#
        )
    }
}

/// The first number of containerd's version.
fn major_version() -> u32 {
    let output = Command::new("containerd").arg("--version").output().expect("containerd starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    let digits = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no version of containerd: {text}"))
}
