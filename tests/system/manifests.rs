//! The manifests of `k8s/` match their schemas, follow the policy, and fit each other and the host.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use spotter_config::Limits;
use spotter_tests::manifests::{RENDERED, documents, faults, of_kind, render};
use spotter_tests::server::Server;
use spotter_tests::{policy, root, run, stdout, system};

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn every_object_of_every_overlay_is_one_that_its_kind_allows() {
    for folder in RENDERED {
        for object in render(folder) {
            let name = format!("{folder}: {} {}", object["kind"], object["metadata"]["name"]);
            assert_eq!(faults(&object), [""; 0], "{name}");
            assert_eq!(policy::faults(&object), [""; 0], "{name}");
        }
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn configurations_of_kubelet_and_scheduler_are_ones_that_their_kinds_allow() {
    for file in ["k8s/placement/scheduler.yaml", "k8s/node/files/kubelet.yaml"] {
        let text = std::fs::read_to_string(root().join(file)).expect("a file");
        for document in documents(&text) {
            assert_eq!(faults(&document), [""; 0], "{file}");
        }
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_is_misspelt_or_against_the_policy_is_found() {
    let objects = render("overlays/monitoring");
    let deployment = of_kind(&objects, "Deployment");
    let changed = |path: &str, value: Value| {
        let mut changed = deployment.clone();
        *changed.pointer_mut(path).expect("a field") = value;
        changed
    };
    let container = "/spec/template/spec/containers/0";
    let misspelt = changed(&format!("{container}/readinessProbe"), json!({"httpGett": {}}));
    assert!(faults(&misspelt)[0].contains("httpGett"), "{:?}", faults(&misspelt));
    for (field, value, fault) in [
        ("securityContext", json!({"privileged": true}), "privileged"),
        ("image", json!("registry.example.com/detect:latest"), "version"),
        ("image", json!("spotter:0.1.0"), "Docker Hub"),
        ("image", json!("docker.io/library/spotter:0.1.0"), "Docker Hub"),
        ("imagePullPolicy", json!("IfNotPresent"), "only its node has"),
        ("image", json!("registry.example.com:5000/detect"), "version"),
        ("securityContext/capabilities", json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "adds"),
        ("securityContext", json!({"runAsUser": 0}), "runs as root"),
        ("ports", json!([{"containerPort": 80, "hostPort": 80}]), "port of its host"),
        ("startupProbe", json!(null), "startup probe"),
        ("resources", json!({"requests": {"cpu": "1", "memory": "1Gi"}}), "limit of memory"),
    ] {
        let found = policy::faults(&changed(&format!("{container}/{field}"), value)).join("; ");
        assert!(found.contains(fault), "{found:?} lacks {fault:?}");
    }
    let objects = render("node-installer");
    let installer = of_kind(&objects, "DaemonSet");
    for (field, value, fault) in [
        ("hostNetwork", json!(true), "shares the host's network"),
        ("volumes/0", json!({"name": "a", "hostPath": {"path": "/"}}), "mounts the host's files"),
        ("containers/0/securityContext", json!({"privileged": true}), "privileged"),
        ("containers/0/securityContext/runAsNonRoot", json!(false), "may run as root"),
        ("initContainers/0/image", json!("registry.example.com/detect:latest"), "version"),
    ] {
        let mut changed = installer.clone();
        let place = format!("/spec/template/spec/{field}");
        match changed.pointer_mut(&place) {
            Some(found) => *found = value,
            None => changed["spec"]["template"]["spec"][field] = value,
        }
        let found = policy::faults(&changed).join("; ");
        assert!(found.contains(fault), "{found:?} lacks {fault:?}");
    }
    // Every kind refuses unknown fields, at the top level and below.
    for object in RENDERED.iter().flat_map(|folder| render(folder)) {
        for place in ["", "/spec", "/metadata"] {
            let mut changed = object.clone();
            let Some(Value::Object(fields)) = changed.pointer_mut(place) else { continue };
            fields.insert("intervall".into(), json!("15s"));
            assert!(!faults(&changed).is_empty(), "{} takes anything at {place:?}", object["kind"]);
        }
    }
    let unknown = json!({"apiVersion": "v1", "kind": "Thing"});
    assert!(faults(&unknown)[0].contains("Thing"));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn what_selects_pods_selects_the_detectors_and_ports_are_there() {
    let objects = render("overlays/monitoring");
    let deployment = of_kind(&objects, "Deployment");
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    let selects = |selector: &Value| {
        let wanted = selector.as_object().expect("a selector");
        assert!(!wanted.is_empty());
        wanted.iter().all(|(key, value)| labels[key] == *value)
    };
    let service = of_kind(&objects, "Service");
    assert!(selects(&deployment["spec"]["selector"]["matchLabels"]));
    assert!(selects(&service["spec"]["selector"]));
    for kind in ["PodDisruptionBudget", "NetworkPolicy"] {
        let spec = &of_kind(&objects, kind)["spec"];
        let selector =
            if kind == "NetworkPolicy" { &spec["podSelector"] } else { &spec["selector"] };
        assert!(selects(&selector["matchLabels"]), "{kind}");
    }
    let names = |list: &Value, key: &str| -> BTreeSet<String> {
        let list = list.as_array().expect("a list").iter();
        list.filter_map(|entry| Some(entry[key].as_str()?.to_owned())).collect()
    };
    let ports = names(&template["spec"]["containers"][0]["ports"], "name");
    assert_eq!(names(&service["spec"]["ports"], "targetPort"), ports);
    let monitored = names(&of_kind(&objects, "ServiceMonitor")["spec"]["endpoints"], "port");
    assert!(monitored.is_subset(&names(&service["spec"]["ports"], "name")));
    let class = of_kind(&objects, "RuntimeClass");
    assert_eq!(template["spec"]["runtimeClassName"], class["metadata"]["name"]);
    assert_eq!(
        of_kind(&objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"],
        "detect"
    );
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_base_runs_the_image_that_spotter_image_writes() {
    let manifest = std::fs::read_to_string(root().join("spin.toml")).expect("a manifest");
    let value = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(key)).expect("a key");
        line.trim_matches([' ', '=', '"']).to_owned()
    };
    let objects = render("base");
    let container = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], format!("localhost/{}:{}", value("name"), value("version")));
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn the_installer_labels_the_nodes_that_the_runtime_class_selects() {
    let objects = render("node-installer");
    let (base, installers) = (render("base"), of_kind(&objects, "RuntimeClass"));
    let class = of_kind(&base, "RuntimeClass");
    for part in ["handler", "scheduling", "overhead"] {
        assert_eq!(class[part], installers[part], "{part}");
    }
    // What `spotter node install --label` sets: see the test of the label.
    assert_eq!(class["scheduling"]["nodeSelector"], json!({"spotter-runtime": "installed"}));
    let pod = &of_kind(&objects, "DaemonSet")["spec"]["template"]["spec"];
    let role = &of_kind(&objects, "ClusterRole")["rules"];
    assert_eq!(*role, json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}]));
    let bound = &of_kind(&objects, "ClusterRoleBinding")["subjects"][0];
    assert_eq!(bound["name"], pod["serviceAccountName"]);
    assert_eq!(bound["namespace"], of_kind(&objects, "Namespace")["metadata"]["name"]);
    // Each command is one that the command line has.
    for containers in ["initContainers", "containers"] {
        let container = &pod[containers][0];
        let words = ["command", "args"].map(|key| container[key].as_array().cloned());
        let words: Vec<String> = words
            .into_iter()
            .flatten()
            .flatten()
            .skip(1)
            .map(|word| word.as_str().expect("a word").to_owned())
            .chain(["--help".to_owned()])
            .collect();
        let ran = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(ran.status.success(), "{words:?}: {}", spotter_tests::stderr(&ran));
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn times_of_the_manifests_fit_those_of_the_host() {
    let limits = Limits::default();
    let objects = render("overlays/istio");
    let seconds = |value: &Value| -> u64 {
        let text = value.as_str().expect("a duration").trim_end_matches('s');
        text.parse().expect("seconds")
    };
    let pod = &of_kind(&objects, "Deployment")["spec"]["template"]["spec"];
    let sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    let given = pod["terminationGracePeriodSeconds"].as_u64().expect("a period");
    let variables = pod["containers"][0]["env"].as_array().expect("variables");
    let grace = variables.iter().find(|variable| variable["name"] == "SPOTTER_GRACE");
    let grace = seconds(&grace.expect("a grace period")["value"]);
    assert!(given >= sleep.expect("a pause") + grace, "{given} s");
    let route = &of_kind(&objects, "VirtualService")["spec"]["http"][0];
    let whole = limits.request_timeout + limits.queue_timeout;
    let once = Duration::from_secs(seconds(&route["retries"]["perTryTimeout"]));
    assert!(once > whole, "the mesh gives up after {once:?}, the host after {whole:?}");
    assert!(Duration::from_secs(seconds(&route["timeout"])) > once);
    let interceptor = render("overlays/scale-to-zero");
    let timeouts = &of_kind(&interceptor, "InterceptorRoute")["spec"]["timeouts"];
    assert!(Duration::from_secs(seconds(&timeouts["request"])) > whole);
    let retried = route["retries"]["retryOn"].as_str().expect("conditions");
    let conditions: Vec<&str> = retried.split(',').collect();
    assert!(conditions.contains(&"503"), "{retried}");
    for spent in ["504", "5xx", "gateway-error"] {
        assert!(
            !conditions.contains(&spent),
            "{spent} is retried, though it has cost a guest's time"
        );
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn alerts_fire_when_they_should_by_promtool() {
    let promtool = system::program("promtool", "prometheus");
    let objects = render("overlays/monitoring");
    let folder = tempfile::tempdir().expect("a folder");
    let rules = &of_kind(&objects, "PrometheusRule")["spec"];
    // JSON is YAML.
    std::fs::write(folder.path().join("rules.yaml"), rules.to_string()).expect("a file");
    let cases = std::fs::read(root().join("tests/rules/alerts.yaml")).expect("the cases");
    std::fs::write(folder.path().join("alerts.yaml"), cases).expect("a file");
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]] {
        let mut command = std::process::Command::new(&promtool);
        let checked =
            command.args(arguments).current_dir(folder.path()).output().expect("promtool");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{said}{}", spotter_tests::stderr(&checked));
    }
}

#[test]
#[cfg_attr(not(root_on_debian), ignore = "needs root on Debian")]
fn every_metric_that_is_watched_is_one_that_the_host_has() {
    let objects = render("overlays/monitoring");
    let dashboard = of_kind(&objects, "ConfigMap")["data"]["spotter.json"].as_str();
    let dashboard: Value = serde_json::from_str(dashboard.expect("a dashboard")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 10));
    let rules = of_kind(&objects, "PrometheusRule").to_string();
    let scaler = of_kind(&render("overlays/queue"), "HorizontalPodAutoscaler").to_string();
    let values = root().join("k8s/components/queue/adapter-values.yaml");
    let adapter = std::fs::read_to_string(values).expect("values");
    assert!(metrics_in(&scaler).is_subset(&metrics_in(&adapter)), "{scaler}{adapter}");
    let watched = metrics_in(&format!("{dashboard}{rules}{scaler}"));
    assert!(watched.len() > 15, "{watched:?}");
    let server = Server::guests(&[]);
    // Request each kind of path, because a counter without a count has no sample.
    for path in ["/nowhere", "/guest/trap", "/guest/detections"] {
        spotter_tests::client::get(&server.url(path));
    }
    let metrics = spotter_tests::client::get(&server.admin_url("/metrics"));
    let bonds = stdout(&run(&["node", "metrics", "--root", "tests/node"]));
    let there = metrics_in(&format!("{}{bonds}", String::from_utf8_lossy(&metrics.body)));
    // For a histogram, or a counter without a count, only the description has the bare name.
    let is_there = |name: &String| {
        let base = ["_bucket", "_count", "_total"].iter().find_map(|end| name.strip_suffix(end));
        there.contains(name) || base.is_some_and(|base| there.contains(base))
    };
    let missing: Vec<&String> = watched.iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "no such metrics: {missing:?}");
}

/// The names in a text that begin with the prefix of the host's metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("spotter_")).map(str::to_owned).collect()
}
