//! The scheduler of `k8s/placement`, as kustomize builds it: its roles allow everything that it asks the API server
//! for.

use serde_json::{Value, json};
use spotter_tests::manifests::{documents, of_kind, render};
use spotter_tests::rbac::{Client, Request, built_in, is_allowed};

/// The scheduler's configuration, from the ConfigMap that its Deployment mounts.
fn configuration(objects: &[Value]) -> Value {
    let deployment = of_kind(objects, "Deployment");
    let config_map = of_kind(objects, "ConfigMap");
    let mounted = &deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"];
    assert_eq!(mounted, &config_map["metadata"]["name"]);
    let text = config_map["data"]["scheduler.yaml"].as_str().expect("a configuration");
    documents(text).remove(0)
}

/// The requests that the scheduler needs to become the leader, and that are refused (client-go,
/// `tools/leaderelection/resourcelock/leaselock.go`).
fn refused(objects: &[Value]) -> Vec<String> {
    let election = &configuration(objects)["leaderElection"];
    assert_eq!(election["leaderElect"], true);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (lease, namespace) =
        (text(&election["resourceName"]), text(&election["resourceNamespace"]));
    let pod = &of_kind(objects, "Deployment")["spec"]["template"]["spec"];
    let account = text(&pod["serviceAccountName"]);
    let own = text(&of_kind(objects, "ServiceAccount")["metadata"]["namespace"]);
    let asked = [("create", None), ("get", Some(&*lease)), ("update", Some(&*lease))];
    let refused = asked.into_iter().filter(|(verb, name)| {
        let (group, resource) = ("coordination.k8s.io", "leases");
        let client = Client::ServiceAccount { namespace: &own, name: &account };
        let namespace = &*namespace;
        !is_allowed(objects, Request { client, verb, group, resource, namespace, name: *name })
    });
    refused.map(|(verb, name)| format!("{verb} {name:?}")).collect()
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_scheduler_may_take_the_lease_that_its_configuration_names() {
    let objects = render("placement");
    assert_eq!(refused(&objects), [""; 0]);
    // As kustomize built it once: the lease's name with the hash of a ConfigMap of the same name.
    let mut renamed = objects.clone();
    let role = renamed.iter_mut().find(|object| object["kind"] == "Role").expect("a Role");
    *role.pointer_mut("/rules/1/resourceNames").expect("names") =
        json!(["spotter-scheduler-5kgd5ct2t6"]);
    assert_eq!(refused(&renamed).len(), 2);
    let unbound: Vec<Value> =
        objects.into_iter().filter(|object| object["kind"] != "RoleBinding").collect();
    assert_eq!(refused(&unbound).len(), 3);
}

/// The requests that a scheduler makes at work for objects that the profile `spotter-pack` uses: group, resource, verb,
/// namespace, name.
const ASKED: [(&str, &str, &str, &str, Option<&str>); 13] = [
    ("", "nodes", "watch", "", None),
    ("", "pods", "watch", "", None),
    ("", "pods/binding", "create", "spotter", None),
    ("", "pods/status", "patch", "spotter", Some("detect-1")),
    ("", "services", "list", "", None),
    ("", "namespaces", "watch", "", None),
    ("apps", "replicasets", "watch", "", None),
    ("policy", "poddisruptionbudgets", "list", "", None),
    ("events.k8s.io", "events", "create", "spotter", None),
    ("", "persistentvolumeclaims", "watch", "", None),
    ("storage.k8s.io", "storageclasses", "watch", "", None),
    ("authorization.k8s.io", "subjectaccessreviews", "create", "", None),
    ("", "configmaps", "get", "kube-system", Some("extension-apiserver-authentication")),
];

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_scheduler_may_do_its_work_and_the_installer_nothing_but_label_nodes() {
    let client = Client::ServiceAccount { namespace: "kube-system", name: "spotter-scheduler" };
    let objects = [render("placement"), built_in()].concat();
    let refused = |objects: &[Value]| {
        let asked = ASKED.into_iter().filter(|&(group, resource, verb, namespace, name)| {
            !is_allowed(objects, Request { client, verb, group, resource, namespace, name })
        });
        asked.map(|(_, resource, verb, ..)| format!("{verb} {resource}")).collect::<Vec<_>>()
    };
    assert_eq!(refused(&objects), [""; 0]);
    let without = |kind: &str| -> Vec<Value> {
        objects.iter().filter(|object| object["kind"] != kind).cloned().collect()
    };
    assert_eq!(refused(&without("ClusterRoleBinding")).len(), ASKED.len() - 1);
    assert_eq!(refused(&without("RoleBinding")), ["get configmaps"]);

    let objects = [render("node-installer"), built_in()].concat();
    let client =
        Client::ServiceAccount { namespace: "spotter-node", name: "spotter-node-installer" };
    let may = |verb: &str, resource: &str, name: Option<&str>| {
        is_allowed(&objects, Request { client, verb, group: "", resource, namespace: "", name })
    };
    assert!(may("patch", "nodes", Some("node-1")));
    for (verb, resource) in
        [("delete", "nodes"), ("get", "nodes"), ("patch", "nodes/status"), ("get", "secrets")]
    {
        assert!(!may(verb, resource, Some("node-1")), "it may {verb} {resource}");
    }
}
