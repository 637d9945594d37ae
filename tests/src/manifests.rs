//! The manifests of `k8s/`, rendered by kubectl and checked field by field, as a cluster's API would check them.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kubernetes_tools::kubectl;
use crate::{root, stderr, stdout};

/// All folders for `kubectl apply -k`.
pub const RENDERED: [&str; 13] = [
    "base",
    "batch",
    "node-installer",
    "node-uninstaller",
    "overlays/istio",
    "overlays/monitoring",
    "overlays/pack",
    "overlays/queue",
    "overlays/registry",
    "overlays/scale-to-zero",
    "overlays/spinkube",
    "overlays/standalone",
    "placement",
];

/// All components, each of which changes the base.
pub const COMPONENTS: [&str; 7] =
    ["istio", "monitoring", "pack", "queue", "registry", "scale-to-zero", "standalone"];

/// The objects of a folder of `k8s/`. A warning of kubectl is a failure.
pub fn render(folder: &str) -> Vec<Value> {
    render_in(&root().join("k8s"), folder)
}

/// The same, of a copy of `k8s/`.
pub fn render_in(manifests: &Path, folder: &str) -> Vec<Value> {
    let mut command = Command::new(kubectl());
    let rendered = command.arg("kustomize").arg(manifests.join(folder)).output();
    let rendered = rendered.expect("kubectl starts");
    assert!(rendered.status.success(), "{folder}: {}", stderr(&rendered));
    assert_eq!(stderr(&rendered), "", "{folder}");
    documents(&stdout(&rendered))
}

/// A copy of `k8s/` that a test can change.
pub fn copied() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let from = root().join("k8s/.");
    let copied = Command::new("cp").arg("-a").arg(from).arg(folder.path()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    folder
}

/// The objects of the base with these components, as a user's own kustomization combines them.
pub fn combine(components: &[&str]) -> Vec<Value> {
    let manifests = copied();
    let paths = components.iter().map(|name| format!("../components/{name}")).collect::<Vec<_>>();
    let is_pushed = components.contains(&"registry") || components.contains(&"standalone");
    let pushed = json!({"name": "localhost/spotter", "newName": "registry.example.com/detect"});
    let images: Vec<Value> = is_pushed.then_some(pushed).into_iter().collect();
    // JSON is YAML.
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "spotter",
        "sortOptions": {"order": "fifo"},
        "resources": ["../base"],
        "components": paths,
        "images": images,
    });
    let folder = manifests.path().join("combined");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).expect("a file");
    render_in(manifests.path(), "combined")
}

/// The documents of a YAML text.
pub fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents.map(|document| Value::deserialize(document).expect("a document")).collect()
}

/// The only object of this kind among some.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(object), None) => object,
        (first, _) => {
            panic!("there is {} {kind}", if first.is_some() { "more than one" } else { "no" })
        }
    }
}

/// The faults of an object: fields that its kind does not have, or values of the wrong type. Kubernetes' own kinds
/// are checked against their types, others against the schemas in `tests/schemas`.
pub fn faults(object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    match kind {
        "ClusterRole" => of_type::<ClusterRole>(object),
        "ClusterRoleBinding" => of_type::<ClusterRoleBinding>(object),
        "ConfigMap" => of_type::<ConfigMap>(object),
        "DaemonSet" => of_type::<DaemonSet>(object),
        "Deployment" => of_type::<Deployment>(object),
        "Job" => of_type::<Job>(object),
        "HorizontalPodAutoscaler" => of_type::<HorizontalPodAutoscaler>(object),
        "Namespace" => of_type::<Namespace>(object),
        "Ingress" => of_type::<Ingress>(object),
        "Node" => of_type::<Node>(object),
        "Secret" => of_type::<Secret>(object),
        "NetworkPolicy" => of_type::<NetworkPolicy>(object),
        "PodDisruptionBudget" => of_type::<PodDisruptionBudget>(object),
        "ResourceQuota" => of_type::<ResourceQuota>(object),
        "Role" => of_type::<Role>(object),
        "RoleBinding" => of_type::<RoleBinding>(object),
        "RuntimeClass" => of_type::<RuntimeClass>(object),
        "Service" => of_type::<Service>(object),
        "ServiceAccount" => of_type::<ServiceAccount>(object),
        _ => of_schema(kind, object),
    }
}

/// Deserializes the object as its type, which checks `apiVersion` and `kind`. An ignored field is a fault.
fn of_type<T: DeserializeOwned>(object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let read: Result<T, _> =
        serde_ignored::deserialize(object, |path| faults.push(format!("there is no field {path}")));
    faults.extend(read.err().map(|error| error.to_string()));
    faults
}

fn of_schema(kind: &str, object: &Value) -> Vec<String> {
    let path = root().join("tests/schemas").join(format!("{kind}.json"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        return vec![format!("there is no schema for the kind {kind:?}")];
    };
    let schema = serde_json::from_str(&text).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let faults = validator.iter_errors(object);
    faults.map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
}
