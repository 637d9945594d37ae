//! The components of `k8s/` combine, and their settings reach every object that needs them.

use serde_json::{Value, json};
use spotter_tests::manifests::{COMPONENTS, combine, copied, faults, of_kind, render_in};
use spotter_tests::policy;

/// What shows that a component has taken effect.
fn shows(component: &str, objects: &[Value]) -> bool {
    let pod = &of_kind(objects, "Deployment")["spec"]["template"]["spec"];
    let has = |kind: &str| objects.iter().any(|object| object["kind"] == kind);
    match component {
        "istio" => {
            of_kind(objects, "Namespace")["metadata"]["labels"]["istio-injection"] == "enabled"
        }
        "monitoring" => has("ServiceMonitor") && has("PrometheusRule") && has("ConfigMap"),
        "queue" => objects.iter().any(|object| {
            object["kind"] == "HorizontalPodAutoscaler" && object.to_string().contains("_queued")
        }),
        "pack" => pod["schedulerName"] == "spotter-pack",
        "registry" => pod["containers"][0]["command"] == json!(["/needs-runtimeClassName-spotter"]),
        "standalone" => {
            pod["runtimeClassName"].is_null()
                && pod["containers"][0]["command"].is_null()
                && pod["volumes"][0]["emptyDir"].is_object()
                && !has("RuntimeClass")
        }
        "scale-to-zero" => has("ScaledObject") && !has("HorizontalPodAutoscaler"),
        _ => panic!("{component}"),
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn components_combine_in_any_order() {
    let mut combinations = vec![COMPONENTS.to_vec(), COMPONENTS.into_iter().rev().collect()];
    for first in COMPONENTS {
        combinations.extend(
            COMPONENTS.iter().filter(|second| **second != first).map(|second| vec![first, second]),
        );
    }
    for components in combinations {
        let objects = combine(&components);
        for component in COMPONENTS {
            // Without pods there is no queue: scaling to zero has its own measure.
            let has_scaler = component != "queue" || !components.contains(&"scale-to-zero");
            // An image with a program in it has an entry point of its own.
            let has_place = component != "registry" || !components.contains(&"standalone");
            let wanted = components.contains(&component) && has_scaler && has_place;
            assert_eq!(shows(component, &objects), wanted, "{component} in {components:?}");
        }
        for object in &objects {
            let name = format!("{components:?}: {}", object["kind"]);
            assert_eq!(faults(object), [""; 0], "{name}");
            assert_eq!(policy::faults(object), [""; 0], "{name}");
        }
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn one_file_says_where_prometheus_is_and_what_it_selects() {
    let manifests = copied();
    let settings = manifests.path().join("components/monitoring/settings.yaml");
    let text = std::fs::read_to_string(&settings).expect("the settings");
    let changed = text
        .replace("namespace: monitoring", "namespace: observability")
        .replace("release: kube-prometheus-stack", "release: prometheus");
    assert_ne!(changed, text);
    std::fs::write(&settings, changed).expect("a file");
    let objects = render_in(manifests.path(), "overlays/monitoring");
    let allowed = &of_kind(&objects, "NetworkPolicy")["spec"]["ingress"][1];
    assert_eq!(allowed["ports"][0]["port"], 3001);
    let namespace = &allowed["from"][0]["namespaceSelector"]["matchLabels"];
    assert_eq!(*namespace, json!({"kubernetes.io/metadata.name": "observability"}));
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        assert_eq!(
            of_kind(&objects, kind)["metadata"]["labels"]["release"],
            "prometheus",
            "{kind}"
        );
    }
}
