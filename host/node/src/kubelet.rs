//! Reads what the kubelet of a machine needs: its kubeconfig and certificate, the API server, a proxy for Services, and
//! the pod sandbox image.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::programs;

/// A kubelet, and what it needs.
#[derive(Clone, Debug, Default)]
pub struct Kubelet {
    /// Its executable on the system's path, if any.
    pub program: Option<PathBuf>,
    /// Its kubeconfig, which it writes when it joins a cluster.
    pub kubeconfig: Option<Kubeconfig>,
    /// The kubeconfig with which it asks to join.
    pub bootstrap: Option<Kubeconfig>,
    /// The process that serves Services' addresses, if any.
    pub proxy: Option<String>,
    /// Whether the host's firewall sees bridged packets, as kube-proxy needs; `None` without the module.
    pub filters_bridges: Option<bool>,
    /// Whether containerd has a sandbox image; `None` if it cannot be asked.
    pub has_sandbox_image: Option<bool>,
}

/// A kubeconfig that was read.
#[derive(Clone, Debug, Default)]
pub struct Kubeconfig {
    pub path: PathBuf,
    /// The API server's URL.
    pub server: Option<String>,
    /// Why the API server cannot be reached; `None` if it can.
    pub unreachable: Option<String>,
    /// The file of the client certificate, if the kubeconfig names one that does not exist.
    pub missing_certificate: Option<PathBuf>,
}

/// Where kubeadm and `make-node` put a kubelet's kubeconfigs.
const KUBECONFIG_PATH: &str = "etc/kubernetes/kubelet.conf";
const BOOTSTRAP_KUBECONFIG_PATHS: [&str; 2] =
    ["etc/kubernetes/bootstrap.conf", "etc/kubernetes/bootstrap-kubelet.conf"];

/// Processes that make Services' addresses work: kube-proxy, and network plugins that replace it. Linux cuts names
/// after 15 characters.
const SERVICE_PROXY_PROCESSES: [&str; 4] =
    ["kube-proxy", "cilium-agent", "kube-router", "calico-node"];

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl Kubelet {
    /// Reads a kubelet's state on the machine whose root is `root`.
    #[must_use]
    pub(super) fn read(root: &Path) -> Self {
        let filter = fs::read_to_string(root.join("proc/sys/net/bridge/bridge-nf-call-iptables"));
        Self {
            program: programs::find(root, "kubelet"),
            kubeconfig: Kubeconfig::read(root, KUBECONFIG_PATH),
            bootstrap: BOOTSTRAP_KUBECONFIG_PATHS
                .iter()
                .find_map(|path| Kubeconfig::read(root, path)),
            proxy: proxy(root),
            filters_bridges: filter.ok().map(|text| text.trim() == "1"),
            has_sandbox_image: has_sandbox_image(root),
        }
    }
}

impl Kubeconfig {
    fn read(root: &Path, path: &str) -> Option<Self> {
        let text = fs::read_to_string(root.join(path)).ok()?;
        let value = |key: &str| {
            text.lines().find_map(|line| {
                let value = line.trim().trim_start_matches("- ").strip_prefix(key)?;
                Some(value.strip_prefix(':')?.trim().trim_matches('"').to_owned())
            })
        };
        let certificate = value("client-certificate").map(PathBuf::from);
        let is_missing =
            |path: &PathBuf| !root.join(path.strip_prefix("/").unwrap_or(path)).exists();
        let server = value("server");
        Some(Self {
            path: Path::new("/").join(path),
            unreachable: server.as_deref().and_then(|server| connect(server).err()),
            server,
            missing_certificate: certificate.filter(is_missing),
        })
    }
}

/// Opens a connection to an `https://` URL's host, and closes it again.
fn connect(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").ok_or("its URL does not begin with https://")?;
    let authority = rest.split('/').next().unwrap_or_default();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:443") };
    let addresses = authority.to_socket_addrs().map_err(|error| error.to_string())?;
    let mut problem = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

fn proxy(root: &Path) -> Option<String> {
    let processes = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let mut names = processes.filter_map(|process| {
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(name.trim().to_owned())
    });
    names.find(|name| SERVICE_PROXY_PROCESSES.contains(&name.as_str()))
}

/// Asks containerd, but only if `root` is this machine's own.
fn has_sandbox_image(root: &Path) -> Option<bool> {
    if root != Path::new("/") {
        return None;
    }
    let listed = Command::new("ctr").args(["-n", "k8s.io", "images", "ls", "-q"]).output().ok()?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed.status.success().then(|| names.lines().any(|name| name.contains("pause")))
}

#[cfg(test)]
mod tests {
    use super::{Kubelet, connect};
    use std::net::TcpListener;

    #[test]
    fn a_kubelet_is_read_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let none = Kubelet::read(root.path());
        assert!(none.program.is_none() && none.kubeconfig.is_none() && none.proxy.is_none());
        assert_eq!((none.filters_bridges, none.has_sandbox_image), (None, None));
        let api = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("https://{}", api.local_addr().unwrap());
        write(
            "etc/kubernetes/kubelet.conf",
            &format!(
                "clusters:\n- cluster:\n    certificate-authority-data: YQ==\n    server: {server}\nusers:\n\
                 - user:\n    client-certificate: /var/lib/kubelet/pki/client.pem\n"
            ),
        );
        write("etc/kubernetes/bootstrap-kubelet.conf", "- cluster:\n    server: http://10.0.0.1\n");
        write("proc/77/comm", "kube-proxy\n");
        write("proc/78/comm", "bash\n");
        write("proc/sys/net/bridge/bridge-nf-call-iptables", "0\n");
        let kubelet = Kubelet::read(root.path());
        let config = kubelet.kubeconfig.unwrap();
        assert_eq!(config.server.as_deref(), Some(&*server));
        assert_eq!(config.unreachable, None);
        assert!(config.missing_certificate.is_some());
        assert!(kubelet.bootstrap.unwrap().unreachable.is_some());
        assert_eq!(kubelet.proxy.as_deref(), Some("kube-proxy"));
        assert_eq!(kubelet.filters_bridges, Some(false));
        write("var/lib/kubelet/pki/client.pem", "");
        let config = Kubelet::read(root.path()).kubeconfig.unwrap();
        assert_eq!(config.missing_certificate, None);
        drop(api);
        assert!(connect(&server).is_err());
    }
}
