//! The policy for every workload of `k8s/`, in addition to its types: nothing is privileged, probes and resources
//! are set, and images have a version. Only the init container of a DaemonSet may change its node.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::Deserialize;
use serde_json::Value;

/// How a workload violates the policy. Empty for other objects.
pub fn faults(object: &Value) -> Vec<String> {
    match object["kind"].as_str() {
        Some("Deployment") => {
            let deployment = Deployment::deserialize(object).expect("a Deployment");
            let spec = deployment.spec.and_then(|spec| spec.template.spec);
            of_pod(&spec.expect("a pod's specification"), Purpose::Serves)
        }
        Some("Job") => {
            let job = Job::deserialize(object).expect("a Job");
            let spec = job.spec.and_then(|spec| spec.template.spec);
            of_pod(&spec.expect("a pod's specification"), Purpose::Ends)
        }
        Some("DaemonSet") => {
            let set = DaemonSet::deserialize(object).expect("a DaemonSet");
            let pod = set.spec.and_then(|spec| spec.template.spec);
            of_installer(&pod.expect("a pod's specification"))
        }
        Some("SpinApp") => of_spin_app(&object["spec"]),
        _ => Vec::new(),
    }
}

/// What a pod is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Requests, so that it is probed.
    Serves,
    /// Work that ends.
    Ends,
}

/// Records conditions that do not hold.
fn unmet(rules: Vec<(bool, String)>) -> Vec<String> {
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule).collect()
}

fn of_pod(pod: &PodSpec, purpose: Purpose) -> Vec<String> {
    let context = pod.security_context.as_ref();
    let seccomp = context.and_then(|context| context.seccomp_profile.as_ref());
    let volumes = pod.volumes.iter().flatten();
    let mut faults = unmet(vec![
        (pod.host_network != Some(true), "shares the host's network".into()),
        (pod.host_pid != Some(true), "shares the host's processes".into()),
        (pod.host_ipc != Some(true), "shares the host's memory".into()),
        (
            !volumes.clone().any(|volume| volume.host_path.is_some()),
            "mounts the host's files".into(),
        ),
        (
            context.and_then(|context| context.run_as_non_root) == Some(true),
            "may run as root".into(),
        ),
        (
            seccomp.is_some_and(|profile| profile.type_ == "RuntimeDefault"),
            "is not confined by seccomp".into(),
        ),
        (context.and_then(|context| context.run_as_user) != Some(0), "runs as root".into()),
        (pod.service_account_name.is_some(), "runs as the default service account".into()),
    ]);
    let containers = pod.containers.iter().chain(pod.init_containers.iter().flatten());
    faults.extend(containers.flat_map(|container| of_container(container, purpose)));
    faults
}

/// A pod whose init container changes its node, and whose other containers are like all others.
fn of_installer(pod: &PodSpec) -> Vec<String> {
    let of_init = pod.init_containers.iter().flatten().flat_map(|container| {
        ["is privileged", "may gain privileges", "keeps capabilities", "runs as root"]
            .map(|fault| format!("{} {fault}", container.name))
    });
    let allowed: Vec<String> = of_init
        .chain(["shares the host's processes", "may run as root"].map(str::to_owned))
        .collect();
    let mut faults = of_pod(pod, Purpose::Ends);
    faults.retain(|fault| !allowed.contains(fault));
    let as_users = pod.containers.iter().all(|container| {
        let context = container.security_context.as_ref();
        context.and_then(|context| context.run_as_non_root) == Some(true)
    });
    faults.extend(unmet(vec![(as_users, "a container that stays may run as root".into())]));
    faults
}

fn of_container(container: &Container, purpose: Purpose) -> Vec<String> {
    let name = &container.name;
    let context = container.security_context.as_ref();
    let capabilities = context.and_then(|context| context.capabilities.as_ref());
    let dropped = capabilities.and_then(|capabilities| capabilities.drop.clone());
    let ports = container.ports.iter().flatten();
    let seccomp = context.and_then(|context| context.seccomp_profile.as_ref());
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let mut rules = vec![
        (context.is_some_and(|c| c.privileged != Some(true)), format!("{name} is privileged")),
        (
            context.and_then(|c| c.allow_privilege_escalation) == Some(false),
            format!("{name} may gain privileges"),
        ),
        (
            context.and_then(|c| c.read_only_root_filesystem) == Some(true),
            format!("{name} may write its root file system"),
        ),
        (dropped == Some(vec!["ALL".to_owned()]), format!("{name} keeps capabilities")),
        (capabilities.is_none_or(|c| c.add.is_none()), format!("{name} adds capabilities")),
        (context.is_none_or(|c| c.run_as_user != Some(0)), format!("{name} runs as root")),
        (
            seccomp.is_none_or(|profile| profile.type_ == "RuntimeDefault"),
            format!("{name} is not confined by seccomp"),
        ),
        (
            ports.clone().all(|port| port.host_port.is_none()),
            format!("{name} takes a port of its host"),
        ),
        (is_pinned(container.image.as_deref()), format!("{name} has no version of its image")),
        (
            has_registry(container.image.as_deref()),
            format!("{name} has an image that Docker Hub would be asked for"),
        ),
        (
            !is_local(container.image.as_deref())
                || container.image_pull_policy.as_deref() == Some("Never"),
            format!("{name} pulls an image that only its node has"),
        ),
    ];
    for (kind, probe) in [
        ("readiness", &container.readiness_probe),
        ("liveness", &container.liveness_probe),
        ("startup", &container.startup_probe),
    ] {
        let is_probed = probe.is_some() || purpose == Purpose::Ends;
        rules.push((is_probed, format!("{name} has no {kind} probe")));
    }
    for resource in ["cpu", "memory"] {
        for (kind, set) in [("request", requests), ("limit", limits)] {
            let is_set = set.is_some_and(|set| set.contains_key(resource));
            rules.push((is_set, format!("{name} has no {kind} of {resource}")));
        }
    }
    unmet(rules)
}

fn of_spin_app(spec: &Value) -> Vec<String> {
    let mut rules = vec![
        (is_pinned(spec["image"].as_str()), "has no version of its image".to_owned()),
        (has_registry(spec["image"].as_str()), "has an image of Docker Hub's".to_owned()),
        (spec["checks"]["readiness"].is_object(), "has no readiness probe".to_owned()),
        (spec["checks"]["liveness"].is_object(), "has no liveness probe".to_owned()),
    ];
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            let is_set = !spec["resources"][kind][resource].is_null();
            rules.push((is_set, format!("has no {kind} of {resource}")));
        }
    }
    unmet(rules)
}

/// Whether an image's name has a digest, or a tag that is a version.
fn is_pinned(image: Option<&str>) -> bool {
    let Some(image) = image else { return false };
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':'));
    image.contains('@') || tag.is_some_and(|(_, tag)| tag != "latest")
}

/// Whether an image's name has a registry other than Docker Hub, where such a name may be someone else's.
fn has_registry(image: Option<&str>) -> bool {
    let registry =
        image.and_then(|image| image.split_once('/')).map_or("", |(registry, _)| registry);
    is_local(image) || registry != "docker.io" && registry.contains(['.', ':'])
}

/// Whether an image is imported on its node, and in no registry.
fn is_local(image: Option<&str>) -> bool {
    image.is_some_and(|image| image.starts_with("localhost/"))
}
