//! The manifests as kubectl applies them: a new cluster takes all of them without a warning, and again without a
//! change.

use spotter_tests::api_server::ApiServer;
use spotter_tests::manifests::{RENDERED, copied, render};
use spotter_tests::{root, stderr, stdout};
use tempfile::TempDir;

/// Applies a folder, and returns what kubectl said on standard error, but for its own remark about the order.
fn apply(server: &ApiServer, folder: &str) -> Result<String, String> {
    let applied = server.kubectl(&["apply", "-k", folder]);
    let said = stderr(&applied);
    let said = said.lines().filter(|line| !line.contains("Sorting order is set both in"));
    let said = said.collect::<Vec<_>>().join("\n");
    if applied.status.success() { Ok(said) } else { Err(said) }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn kubectl_applies_every_folder_to_a_new_cluster_and_changes_nothing_when_it_applies_it_again() {
    for folder in RENDERED {
        let objects = render(folder);
        let server = ApiServer::start(&objects);
        let path = root().join("k8s").join(folder).display().to_string();
        assert_eq!(apply(&server, &path).as_deref(), Ok(""), "{folder}");
        assert_eq!(server.written().len(), objects.len(), "{folder}");
        assert_eq!(apply(&server, &path).as_deref(), Ok(""), "{folder}");
        assert_eq!(server.written(), [""; 0], "{folder}");
        let compared = server.kubectl(&["diff", "-k", &path]);
        assert!(compared.status.success(), "{folder}: {}", stdout(&compared));
    }
}

/// The base, of which a file was changed.
fn changed(file: &str, from: &str, to: &str) -> TempDir {
    let folder = copied();
    let path = folder.path().join("base").join(file);
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(text.contains(from), "{file} lacks {from}");
    std::fs::write(path, text.replace(from, to)).expect("a file");
    folder
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_a_cluster_refuses_warns_of_or_never_keeps_is_found() {
    let objects = render("base");
    let applied = |folder: &TempDir| {
        let server = ApiServer::start(&objects);
        let path = folder.path().join("base").display().to_string();
        let first = apply(&server, &path);
        server.written();
        (first, apply(&server, &path), server.written())
    };
    // In kustomize's own order, the RuntimeClass comes after the pods that name it.
    let (said, _, _) = applied(&changed("kustomization.yaml", "order: fifo", "order: legacy"));
    assert!(said.expect("objects").contains("RuntimeClass spotter not found"));
    // The API server drops an empty list, so kubectl writes it each time.
    let (_, again, written) =
        applied(&changed("networkpolicy.yaml", "  ingress:", "  egress: []\n  ingress:"));
    assert_eq!(again.as_deref(), Ok(""));
    assert_eq!(written.len(), 1, "{written:?}");
    let (said, _, _) = applied(&changed("service.yaml", "targetPort", "targetPorts"));
    assert!(said.expect_err("a refusal").contains("targetPorts"));
    let (said, _, _) = applied(&changed("kustomization.yaml", "  - namespace.yaml\n", ""));
    assert!(said.expect_err("a refusal").contains("namespaces/spotter not found"));
}
