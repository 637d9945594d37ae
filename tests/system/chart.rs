//! The Helm chart in `k8s/chart`: helm accepts it, and it runs the same pods as kustomize's base.

use std::process::{Command, Output};

use serde_json::Value;
use spotter_tests::kubernetes_tools::helm;
use spotter_tests::manifests::{documents, faults, of_kind, render};
use spotter_tests::{policy, root, stderr, stdout};

/// Values that together use every part of the chart.
const VALUES: [&[&str]; 7] = [
    &[],
    &["image=registry.example.com/a/detect:1"],
    &["standalone=true", "image=registry.example.com/a/detect:1", "autoscaling.kind=keda"],
    &[
        "route.kind=gateway",
        "monitoring.serviceMonitor=true",
        "service.ipFamilyPolicy=PreferDualStack",
    ],
    &[
        "route.kind=ingress",
        "autoscaling.kind=none",
        "args={--instances=4}",
        "env.SPOTTER_QUEUE_LENGTH=8",
    ],
    &["nodeInstaller.enabled=true", "nodeInstaller.args={--timeout,90s}"],
    &["networkPolicy=false", "podDisruptionBudget=false", "runtimeClass.create=false"],
];

fn run(arguments: &[&str], values: &[&str]) -> Output {
    let mut command = Command::new(helm());
    command.args(arguments);
    for value in values {
        command.args(["--set", value]);
    }
    command.current_dir(root()).output().expect("helm starts")
}

fn template(values: &[&str]) -> Output {
    run(&["template", "detect", "k8s/chart", "--namespace", "spotter"], values)
}

fn objects(values: &[&str]) -> Vec<Value> {
    let rendered = template(values);
    assert!(rendered.status.success(), "{values:?}: {}", stderr(&rendered));
    documents(&stdout(&rendered))
}

fn pod(objects: &[Value]) -> Value {
    of_kind(objects, "Deployment")["spec"]["template"]["spec"].clone()
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn helm_accepts_the_chart_and_every_object_is_one_that_its_kind_allows() {
    for values in VALUES {
        let linted = run(&["lint", "--strict", "k8s/chart"], values);
        assert!(linted.status.success(), "{values:?}: {}{}", stdout(&linted), stderr(&linted));
        for object in objects(values) {
            let name = format!("{values:?}: {} {}", object["kind"], object["metadata"]["name"]);
            assert_eq!(faults(&object), [""; 0], "{name}");
            assert_eq!(policy::faults(&object), [""; 0], "{name}");
        }
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_chart_runs_the_same_pods_as_kustomize() {
    // Only the label of the release differs.
    let same = |values: &[&str], overlay: &str, image: &str| {
        let ours = pod(&objects(values)).to_string();
        let ours = ours.replace(r#","app.kubernetes.io/instance":"detect""#, "");
        let ours = ours.replace(r#""app.kubernetes.io/instance":"detect","#, "");
        let ours: Value = serde_json::from_str(&ours).expect("JSON");
        let mut theirs = pod(&render(overlay));
        theirs["containers"][0]["image"] = image.into();
        assert_eq!(ours, theirs, "{overlay}");
    };
    let image = "registry.example.com/a/detect:1";
    let named = format!("image={image}");
    same(&[], "base", "localhost/spotter:0.1.0");
    same(&[&named], "overlays/registry", image);
    same(&[&named, "standalone=true"], "overlays/standalone", image);
    let base = render("base");
    for kind in ["HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "RuntimeClass"]
    {
        let strip = |object: &Value| {
            let text = object["spec"].to_string();
            text.replace(r#","app.kubernetes.io/instance":"detect""#, "")
                .replace(r#""app.kubernetes.io/instance":"detect","#, "")
        };
        let parsed =
            |object: &Value| -> Value { serde_json::from_str(&strip(object)).expect("JSON") };
        let ours = objects(&[]);
        let (ours, theirs) = (of_kind(&ours, kind), of_kind(&base, kind));
        assert_eq!(parsed(ours), parsed(theirs), "{kind}");
        assert_eq!(ours["overhead"], theirs["overhead"], "{kind}");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_charts_installer_is_kustomizes_and_off_unless_it_is_asked_for() {
    let is_installers = |object: &Value| {
        let [name, namespace] = ["name", "namespace"].map(|key| object["metadata"][key].as_str());
        name.is_some_and(|name| name.starts_with("spotter-node"))
            || namespace == Some("spotter-node")
    };
    assert!(!objects(&[]).iter().any(is_installers));
    for (action, folder) in [("install", "node-installer"), ("uninstall", "node-uninstaller")] {
        let action = format!("nodeInstaller.action={action}");
        let ours = objects(&["nodeInstaller.enabled=true", &action]);
        let theirs = render(folder);
        let mut kinds = Vec::new();
        for object in theirs.iter().filter(|object| is_installers(object)) {
            let kind = object["kind"].as_str().expect("a kind");
            let found = ours.iter().find(|other| {
                other["kind"] == kind && other["metadata"]["name"] == object["metadata"]["name"]
            });
            let found = found.unwrap_or_else(|| panic!("the chart has no {kind}"));
            for part in ["spec", "rules", "roleRef", "subjects", "automountServiceAccountToken"] {
                let mut wanted = object[part].clone();
                if let Some(labels) = wanted.pointer_mut("/template/metadata/labels") {
                    labels.as_object_mut().expect("labels").remove("app.kubernetes.io/part-of");
                }
                assert_eq!(found[part], wanted, "{kind}: {part}");
            }
            let namespace = &object["metadata"]["namespace"];
            assert_eq!(found["metadata"]["namespace"], *namespace, "{kind}");
            kinds.push(kind);
        }
        assert!(kinds.len() == 7 && kinds.contains(&"DaemonSet"), "{kinds:?}");
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn values_that_would_not_work_are_refused_by_name() {
    for (value, place) in [
        ("image=spotter:0.1.0", "/image"),
        ("image=docker.io/library/spotter", "/image"),
        ("image=registry.example.com/detect:latest", "/image"),
        ("autoscaling.kind=vpa", "/autoscaling/kind"),
        ("autoscaling.minReplicas=0", "/autoscaling/minReplicas"),
        ("service.port=70000", "/service/port"),
        ("env.SPOTTER_ADMIN=0.0.0.0:9", "/env"),
        ("nodeInstaller.action=purge", "/nodeInstaller/action"),
        ("nodeInstaller.image=spotter", "/nodeInstaller/image"),
        ("route.kind=nodeport", "/route/kind"),
        ("standalon=true", "standalon"),
    ] {
        let refused = template(&[value]);
        assert!(!refused.status.success(), "{value} is taken");
        assert!(stderr(&refused).contains(place), "{value}: {}", stderr(&refused));
    }
}
