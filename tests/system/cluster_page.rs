//! The page "A cluster from scratch": its commands run as they are written, as far as they need no control plane.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use spotter_tests::api_server::ApiServer;
use spotter_tests::kubernetes_tools::kubectl;
use spotter_tests::manifests::{documents, faults};
use spotter_tests::rbac::{Client, Request, built_in, is_allowed};
use spotter_tests::stand_ins::Machine;
use spotter_tests::{root, stderr, stdout};
use tempfile::TempDir;

/// The commands of the steps 2 and 3, in their order.
fn commands() -> String {
    let page = fs::read_to_string(root().join("k8s/cluster.md")).expect("a page");
    let start = page.find("## 2. A token for nodes").expect("the second step");
    let end = page.find("## 4. ").expect("the fourth step");
    let mut commands = String::new();
    let mut indentation = None;
    for line in page[start..end].lines() {
        let trimmed = line.trim_start();
        match (indentation, trimmed) {
            (None, "```sh") => indentation = Some(line.len() - trimmed.len()),
            (Some(_), "```") => indentation = None,
            (Some(columns), _) => commands += &format!("{}\n", line.get(columns..).unwrap_or("")),
            (None, _) => {}
        }
    }
    commands
}

/// A machine with a copy of what the page's reader has: kubectl, a certificate authority, the programs of a node.
struct Reader {
    folder: TempDir,
    machine: Machine,
}

impl Reader {
    fn new(server: &ApiServer) -> Self {
        let reader =
            Self { folder: tempfile::tempdir().expect("a folder"), machine: Machine::new() };
        // kubectl plans what it would create, and prints it. What it would ask a control plane for is only noted.
        let kubectl = format!(
            "#!/bin/sh\ncase \" $* \" in\n\
             *' create token '*) echo of.kube.proxy ;;\n\
             *' create '*) exec '{0}' \"$@\" --dry-run=client -o json >>\"$HOME/objects\" ;;\n\
             *' config '*) exec '{0}' \"$@\" ;;\n\
             *) echo \"$*\" >>\"$HOME/asked\" ;;\nesac\n",
            kubectl().display()
        );
        reader.program("bin/kubectl", &kubectl);
        reader.program("k8s/node/make-node", &reader.machine.wrapper());
        for program in ["kubelet", "kube-proxy"] {
            reader.program(program, "#!/bin/sh\n");
        }
        fs::write(reader.path("ca.crt"), "an authority\n").expect("a file");
        fs::create_dir(reader.path(".kube")).expect("a folder");
        fs::copy(server.config(), reader.path(".kube/config")).expect("a file");
        reader
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn program(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("permissions");
    }

    fn read(&self, relative: &str) -> String {
        fs::read_to_string(self.path(relative)).expect("a file")
    }

    fn run(&self, commands: &str) {
        let mut shell = Command::new("bash");
        shell.args(["-euc", commands]).current_dir(&self.folder);
        shell.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        shell.env("HOME", self.folder.path());
        let ran = shell.env_remove("KUBECONFIG").output().expect("bash starts");
        assert!(ran.status.success(), "{commands}\n{}{}", stdout(&ran), stderr(&ran));
    }

    /// A file of the node that `make-node` made.
    fn node(&self, relative: &str) -> String {
        let path = self.machine.path("lxc/node1/rootfs").join(relative);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// The server, the user's token, and the authority of a kubeconfig.
fn credentials(text: &str) -> [String; 3] {
    let config = documents(text).remove(0);
    let cluster = &config["clusters"][0]["cluster"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let authority = STANDARD.decode(text(&cluster["certificate-authority-data"]));
    let authority = String::from_utf8(authority.expect("base64")).expect("text");
    assert_eq!(config["current-context"], config["contexts"][0]["name"]);
    assert_eq!(config["contexts"][0]["context"]["user"], config["users"][0]["name"]);
    [text(&cluster["server"]), text(&config["users"][0]["user"]["token"]), authority]
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_commands_of_the_page_a_cluster_from_nothing_do_what_it_says() {
    let node = serde_json::json!({"apiVersion": "v1", "kind": "Node"});
    let server = ApiServer::start(&[node]);
    let reader = Reader::new(&server);
    reader.run(&commands());

    let planned = reader.read("objects");
    let planned = serde_json::Deserializer::from_str(&planned).into_iter();
    let objects: Vec<Value> = planned.map(|object| object.expect("JSON")).collect();
    let named = |kind: &str, name: &str| {
        let found = objects
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}: {objects:#?}"))
    };
    for object in &objects {
        assert_eq!(faults(object), [""; 0], "{object}");
    }
    // The token is the one that the kubelet shows.
    let secret = named("Secret", "bootstrap-token-abcdef");
    assert_eq!(secret["type"], "bootstrap.kubernetes.io/token");
    assert_eq!(secret["metadata"]["namespace"], "kube-system");
    let part = |key: &str| {
        let bytes = STANDARD.decode(secret["data"][key].as_str().expect("text")).expect("base64");
        String::from_utf8(bytes).expect("text")
    };
    assert_eq!(part("usage-bootstrap-authentication"), "true");
    let token = format!("{}.{}", part("token-id"), part("token-secret"));
    let server = "https://10.0.0.2:6443".to_owned();
    let expected = [server, token, "an authority\n".to_owned()];
    assert_eq!(credentials(&reader.read("bootstrap.conf")), expected);

    // make-node has put all files where the node's systemd units expect them.
    assert_eq!(credentials(&reader.node("etc/kubernetes/bootstrap.conf")), expected);
    assert_eq!(reader.node("etc/kubernetes/pki/ca.crt"), expected[2]);
    let [_, proxy, _] = credentials(&reader.node("etc/kubernetes/kube-proxy.conf"));
    assert_eq!(proxy, "of.kube.proxy");
    for unit in ["kubelet", "kube-proxy"] {
        let text = reader.node(&format!("etc/systemd/system/{unit}.service"));
        verify(&reader, unit, &text);
    }
    // The node's pods get the addresses that its object has, which kube-proxy knows as pods'.
    let networks = reader.node("etc/cni/net.d/10-pods.conflist");
    let spec = &named("Node", "node1")["spec"];
    assert!(networks.contains(spec["podCIDR"].as_str().expect("text")), "{networks}");
    let unit = reader.node("etc/systemd/system/kube-proxy.service");
    assert!(unit.contains("--cluster-cidr=10.244.0.0/16"), "{unit}");
    // A label that a kubelet sets only on its own Node object.
    assert_eq!(named("Node", "node1")["metadata"]["labels"]["spotter-runtime"], "installed");
    assert!(
        reader.node("etc/systemd/system/kubelet.service").contains("spotter-runtime=installed")
    );

    let asked = reader.read("asked");
    assert!(asked.contains("certificate approve"), "{asked}");
    may_join([objects, built_in()].concat());
}

/// Checks a unit as systemd would, with stand-ins for its programs.
fn verify(reader: &Reader, unit: &str, text: &str) {
    assert!(!text.contains('@'), "{text}");
    let text = text.replace("/usr/local/bin/", &format!("{}/", reader.folder.path().display()));
    let path = reader.path(&format!("{unit}.service"));
    fs::write(&path, text).expect("a file");
    let containerd = "[Service]\nExecStart=/bin/true\n";
    fs::write(reader.path("containerd.service"), containerd).expect("a file");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output();
    let verified = verified.expect("systemd-analyze starts");
    let said = stderr(&verified);
    let of_this_unit = said.lines().filter(|line| line.contains(&format!("{unit}.service")));
    assert_eq!(of_this_unit.collect::<Vec<_>>(), [""; 0]);
}

/// A node may ask for its certificate, is approved, and may renew it; kube-proxy may read what it needs.
fn may_join(objects: Vec<Value>) {
    let may = |client, verb, group, resource| {
        let request = Request { client, verb, group, resource, namespace: "", name: None };
        is_allowed(&objects, request)
    };
    let certificates = "certificates.k8s.io";
    let signing = "certificatesigningrequests";
    let (nodeclient, selfnodeclient) =
        (format!("{signing}/nodeclient"), format!("{signing}/selfnodeclient"));
    let (new, joined) = (Client::Group("system:bootstrappers"), Client::Group("system:nodes"));
    assert!(may(new, "create", certificates, signing));
    assert!(may(new, "watch", certificates, signing));
    assert!(may(new, "create", certificates, &nodeclient));
    assert!(!may(new, "create", certificates, &selfnodeclient));
    assert!(may(joined, "create", certificates, &selfnodeclient));
    let proxy = Client::ServiceAccount { namespace: "kube-system", name: "kube-proxy" };
    for (group, resource, verb) in [
        ("", "services", "watch"),
        ("discovery.k8s.io", "endpointslices", "watch"),
        ("", "nodes", "get"),
    ] {
        assert!(may(proxy, verb, group, resource), "kube-proxy may not {verb} {resource}");
    }
    assert!(!may(proxy, "create", "", "pods"));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_the_page_says_to_delete_is_what_the_overlays_leave_out() {
    let page = fs::read_to_string(root().join("k8s/cluster.md")).expect("a page");
    let base = spotter_tests::manifests::render("base");
    for overlay in ["scale-to-zero", "spinkube"] {
        let row = page.lines().find(|line| {
            line.starts_with("| `") && line.contains(overlay) && line.contains("kubectl -n")
        });
        let row = row.unwrap_or_else(|| panic!("no row for {overlay}"));
        let objects = spotter_tests::manifests::render(
            &Path::new("overlays").join(overlay).display().to_string(),
        );
        for object in &base {
            let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
            let is_kept = objects
                .iter()
                .any(|other| other["kind"] == *kind && other["metadata"]["name"] == *name);
            let kind = kind.as_str().expect("a kind");
            let word = match kind {
                "HorizontalPodAutoscaler" => "hpa".to_owned(),
                "PodDisruptionBudget" => "pdb".to_owned(),
                kind => kind.to_lowercase(),
            };
            let delete = row.split("delete ").nth(1).and_then(|rest| rest.split(' ').next());
            let is_deleted = delete.is_some_and(|list| list.split(',').any(|one| one == word));
            assert_eq!(!is_kept, is_deleted, "{overlay}: {kind} {name}: {row}");
        }
    }
}
