//! A stand-in for a cluster's API server, for kubectl: lists the kinds of objects, stores objects, and rejects, warns
//! and drops fields as the real one does (<https://kubernetes.io/docs/reference/using-api/api-concepts/>).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kubernetes_tools::kubectl;
use crate::manifests::faults;

/// Kinds that belong to no namespace.
const OF_THE_CLUSTER: [&str; 5] =
    ["ClusterRole", "ClusterRoleBinding", "Namespace", "Node", "RuntimeClass"];

/// Namespaces that every cluster has.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// A running stand-in.
pub struct ApiServer {
    folder: TempDir,
    cluster: Arc<Mutex<Cluster>>,
}

/// What it knows and keeps.
#[derive(Default)]
struct Cluster {
    /// `apiVersion` and kind.
    kinds: BTreeSet<(String, String)>,
    /// By their paths.
    objects: BTreeMap<String, Value>,
    /// How often each was written.
    generations: BTreeMap<String, u64>,
    /// The paths of objects that were created or changed.
    written: Vec<String>,
}

struct Request {
    method: String,
    path: String,
    /// Whether nothing is to be kept (`dryRun=All`).
    is_rehearsal: bool,
    body: Value,
}

/// A status, an object, and a warning; empty for none.
type Reply = (u16, Value, String);

impl ApiServer {
    /// Starts a server that knows the kinds of these objects.
    pub fn start(known: &[Value]) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kinds = known.iter().map(|object| (text(&object["apiVersion"]), text(&object["kind"])));
        let mut cluster = Cluster { kinds: kinds.collect(), ..Cluster::default() };
        for name in NAMESPACES {
            let path = format!("/api/v1/namespaces/{name}");
            cluster.objects.insert(path, json!({"metadata": {"name": name}}));
        }
        let cluster = Arc::new(Mutex::new(cluster));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::clone(&cluster);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&stream, &shared));
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        // JSON is YAML.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "it", "context": {"cluster": "it"}}],
        });
        std::fs::write(folder.path().join("config"), config.to_string()).expect("a file");
        Self { folder, cluster }
    }

    /// The path of a kubeconfig for this server.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Runs kubectl for this server.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(kubectl());
        command.args(arguments).env("KUBECONFIG", self.config());
        command.env("KUBECACHEDIR", self.folder.path().join("cache"));
        command.output().expect("kubectl starts")
    }

    /// The paths of objects that were created or changed since this was last called.
    pub fn written(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.cluster).written)
    }
}

fn lock(cluster: &Mutex<Cluster>) -> MutexGuard<'_, Cluster> {
    cluster.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the only request of a connection.
fn answer(mut stream: &TcpStream, cluster: &Mutex<Cluster>) {
    let Some(request) = receive(stream) else { return };
    let (status, body, warning) = lock(cluster).answer(request);
    let body = body.to_string();
    let warning =
        if warning.is_empty() { warning } else { format!("warning: 299 - {warning:?}\r\n") };
    let head = format!(
        "HTTP/1.1 {status} .\r\ncontent-type: application/json\r\n{warning}\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // kubectl may have gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn receive(stream: &TcpStream) -> Option<Request> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).ok()?;
    let (method, rest) = line.split_once(' ')?;
    let (path, query) = rest.split_once(' ')?.0.split_once('?').unwrap_or((rest, ""));
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request {
        method: method.to_owned(),
        path: path.split(' ').next()?.trim_end_matches('/').to_owned(),
        is_rehearsal: query.contains("dryRun=All"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn failure(code: u16, reason: &str, message: &str) -> Reply {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message});
    (code, status, String::new())
}

/// The path of a group's version: `/api/v1`, `/apis/apps/v1`.
fn prefix(version: &str) -> String {
    format!("/{}/{version}", if version.contains('/') { "apis" } else { "api" })
}

fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => format!("{kind}es"),
        None => format!("{kind}s"),
    }
}

impl Cluster {
    fn answer(&mut self, request: Request) -> Reply {
        let Request { method, path, is_rehearsal, body } = request;
        if let Some(known) = self.discovery(&path) {
            return (200, known, String::new());
        }
        let kept = |path: &str| self.objects.get(path).cloned().unwrap_or_default();
        let (status, path, object) = match method.as_str() {
            "GET" if self.objects.contains_key(&path) => {
                return (200, self.with_generation(&path, kept(&path)), String::new());
            }
            "GET" => return failure(404, "NotFound", &format!("there is no {path}")),
            "POST" => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                (201, format!("{path}/{name}"), body)
            }
            "PATCH" => {
                let mut object = kept(&path);
                merge(&mut object, &body);
                (200, path, object)
            }
            _ => return failure(405, "MethodNotAllowed", &method),
        };
        if let Err(refused) = self.admit(&path, &object) {
            return refused;
        }
        let warning = self.warning(&object);
        let (reply, before) = (drop_empty(object.clone()), self.generation(&path));
        // Compared before anything is dropped, as the API server compares what it was sent.
        if self.objects.get(&path) != Some(&object) {
            self.generations.insert(path.clone(), before + 1);
        }
        let reply = self.with_generation(&path, reply);
        if is_rehearsal {
            self.generations.insert(path, before);
        } else if self.generation(&path) != before {
            self.written.push(path.clone());
            self.objects.insert(path, drop_empty(object));
        }
        (status, reply, warning)
    }

    fn generation(&self, path: &str) -> u64 {
        self.generations.get(path).copied().unwrap_or_default()
    }

    fn with_generation(&self, path: &str, mut object: Value) -> Value {
        object["metadata"]["generation"] = self.generation(path).into();
        object
    }

    /// Refuses objects with unknown fields, and those in a namespace that does not exist.
    fn admit(&self, path: &str, object: &Value) -> Result<(), Reply> {
        let faults = faults(object);
        if !faults.is_empty() {
            return Err(failure(400, "BadRequest", &faults.join("; ")));
        }
        let namespace = path.split("/namespaces/").nth(1).and_then(|rest| rest.split_once('/'));
        let namespace = namespace.map(|(name, _)| format!("/api/v1/namespaces/{name}"));
        match namespace.filter(|path| !self.objects.contains_key(path)) {
            Some(missing) => Err(failure(404, "NotFound", &format!("{missing} not found"))),
            None => Ok(()),
        }
    }

    /// The warning of the API server's plugin for RuntimeClasses.
    fn warning(&self, object: &Value) -> String {
        match object["spec"]["template"]["spec"]["runtimeClassName"].as_str() {
            Some(class)
                if !self
                    .objects
                    .contains_key(&format!("/apis/node.k8s.io/v1/runtimeclasses/{class}")) =>
            {
                format!("RuntimeClass {class} not found")
            }
            _ => String::new(),
        }
    }

    /// Which groups, versions and kinds there are, and that the server validates fields itself.
    fn discovery(&self, path: &str) -> Option<Value> {
        let versions: BTreeSet<&str> = self.kinds.iter().map(|(version, _)| &**version).collect();
        let described = |version: &str| {
            let short = version.rsplit('/').next().unwrap_or_default();
            json!({"groupVersion": version, "version": short})
        };
        let groups = versions.iter().filter_map(|version| {
            let (group, _) = version.split_once('/')?;
            let described = described(version);
            Some(json!({"name": group, "versions": [described], "preferredVersion": described}))
        });
        Some(match path {
            "/version" => json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"}),
            "/api" => json!({"kind": "APIVersions", "versions": ["v1"]}),
            "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1",
                "groups": groups.collect::<Vec<_>>()}),
            "/openapi/v3" => {
                let paths = versions.iter().map(|version| {
                    let url = format!("/openapi/v3{}", prefix(version));
                    (prefix(version)[1..].to_owned(), json!({"serverRelativeURL": url}))
                });
                json!({"paths": paths.collect::<BTreeMap<_, _>>()})
            }
            _ => {
                let schema = path.strip_prefix("/openapi/v3");
                let asked = schema.unwrap_or(path);
                let version = versions.iter().find(|version| prefix(version) == asked)?;
                if schema.is_some() { self.operations(version) } else { self.resources(version) }
            }
        })
    }

    fn kinds_of(&self, version: &str) -> impl Iterator<Item = &str> {
        let kinds = self.kinds.iter().filter(move |(of, _)| of == version);
        kinds.map(|(_, kind)| &**kind)
    }

    fn resources(&self, version: &str) -> Value {
        let resources = self.kinds_of(version).map(|kind| {
            json!({"name": plural(kind), "kind": kind, "singularName": "",
                "namespaced": !OF_THE_CLUSTER.contains(&kind),
                "verbs": ["create", "delete", "get", "list", "patch", "update"]})
        });
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
            "resources": resources.collect::<Vec<_>>()})
    }

    fn operations(&self, version: &str) -> Value {
        let (group, short) = version.split_once('/').unwrap_or(("", version));
        let operations = self.kinds_of(version).map(|kind| {
            let patch = json!({
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "responses": {},
                "x-kubernetes-group-version-kind": {"group": group, "version": short, "kind": kind},
            });
            (format!("/{}", plural(kind)), json!({"patch": patch}))
        });
        json!({"openapi": "3.0.0", "info": {"title": version, "version": "1"},
            "paths": operations.collect::<BTreeMap<_, _>>()})
    }
}

/// A merge patch (RFC 7396). Kubernetes' own kind differs for lists with keys, which replaces them here.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(object.as_object_mut().and_then(|fields| fields.remove(key))),
            value => merge(&mut object[key], value),
        }
    }
}

/// Without nulls and empty lists, which Kubernetes' types leave out when they are written.
fn drop_empty(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (key, drop_empty(value)));
            let is_empty = |value: &Value| value.is_null() || *value == json!([]);
            Value::Object(fields.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(drop_empty).collect()),
        other => other,
    }
}
