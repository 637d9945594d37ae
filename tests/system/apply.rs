//! Applying the manifests to a new cluster: in an order without warnings, and only once.

use serde_json::Value;
use spotter_tests::manifests::{RENDERED, render};

/// The objects of the same folder that a workload needs when its pods start: kind and name.
fn needs(object: &Value) -> Vec<(&'static str, &Value)> {
    let mut needs = Vec::new();
    let namespace = &object["metadata"]["namespace"];
    needs.push(("Namespace", namespace));
    if object["kind"] == "SpinApp" {
        needs.push(("SpinAppExecutor", &object["spec"]["executor"]));
    }
    needs.push(("RuntimeClass", &object["spec"]["deploymentConfig"]["runtimeClassName"]));
    let pod = &object["spec"]["template"]["spec"];
    needs.push(("RuntimeClass", &pod["runtimeClassName"]));
    needs.push(("ServiceAccount", &pod["serviceAccountName"]));
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        needs.push(("ConfigMap", &volume["configMap"]["name"]));
        needs.push(("PersistentVolumeClaim", &volume["persistentVolumeClaim"]["claimName"]));
    }
    needs
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_a_pod_needs_is_applied_before_it() {
    for folder in RENDERED {
        let objects = render(folder);
        let position = |kind: &str, name: &Value| {
            objects
                .iter()
                .position(|object| object["kind"] == kind && object["metadata"]["name"] == *name)
        };
        let mut compared = 0;
        for (at, object) in objects.iter().enumerate() {
            if !["DaemonSet", "Deployment", "Job", "SpinApp", "SpinAppExecutor"]
                .iter()
                .any(|kind| object["kind"] == *kind)
            {
                continue;
            }
            for (kind, name) in needs(object) {
                let Some(needed) = position(kind, name) else { continue };
                assert!(needed < at, "{folder}: {kind} {name} comes after {}", object["kind"]);
                compared += 1;
            }
            // A pod is never without the policy that confines it.
            let policy = objects.iter().position(|object| object["kind"] == "NetworkPolicy");
            assert!(policy.is_none_or(|policy| policy < at), "{folder}: NetworkPolicy comes late");
        }
        assert!(compared >= 2, "{folder}");
    }
}

/// The places of empty lists and nulls in an object. The API server drops them, so that `kubectl diff` finds them
/// missing, and `kubectl apply` writes them again.
fn dropped(value: &Value, place: &str) -> Vec<String> {
    match value {
        Value::Null => vec![place.to_owned()],
        Value::Array(list) if list.is_empty() => vec![place.to_owned()],
        Value::Array(list) => {
            let places = list.iter().enumerate();
            places.flat_map(|(at, entry)| dropped(entry, &format!("{place}/{at}"))).collect()
        }
        Value::Object(fields) => {
            let places = fields.iter();
            places.flat_map(|(key, entry)| dropped(entry, &format!("{place}/{key}"))).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_is_applied_again_changes_nothing() {
    for folder in RENDERED {
        for object in render(folder) {
            assert_eq!(dropped(&object, ""), [""; 0], "{folder}: {}", object["kind"]);
        }
    }
}
