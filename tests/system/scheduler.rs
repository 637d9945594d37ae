//! The scheduler of `k8s/placement`, as kustomize builds it: it may do what it asks the API server for.

use serde_json::{Value, json};
use spotter_tests::manifests::{documents, of_kind, render};
use spotter_tests::rbac::{Request, is_allowed};

/// The scheduler's configuration, from the ConfigMap that its Deployment mounts.
fn configuration(objects: &[Value]) -> Value {
    let deployment = of_kind(objects, "Deployment");
    let config_map = of_kind(objects, "ConfigMap");
    let mounted = &deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"];
    assert_eq!(mounted, &config_map["metadata"]["name"]);
    let text = config_map["data"]["scheduler.yaml"].as_str().expect("a configuration");
    documents(text).remove(0)
}

/// What the scheduler asks for to become the leader, and is refused
/// (client-go, `tools/leaderelection/resourcelock/leaselock.go`).
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
        let (account, namespace) = ((&*own, &*account), &*namespace);
        !is_allowed(objects, Request { account, verb, group, resource, namespace, name: *name })
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
