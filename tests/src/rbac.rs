//! Kubernetes' authorization by roles (RBAC), evaluated over rendered manifests: what a service account or a group may
//! do (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/>).

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Who makes a request.
#[derive(Clone, Copy, Debug)]
pub enum Client<'a> {
    ServiceAccount {
        namespace: &'a str,
        name: &'a str,
    },
    /// A user of this group.
    Group(&'a str),
}

/// A request to the API server.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub client: Client<'a>,
    pub verb: &'a str,
    pub group: &'a str,
    /// With its subresource: `pods/binding`.
    pub resource: &'a str,
    /// Empty for an object that belongs to none.
    pub namespace: &'a str,
    /// `None` to create an object, whose name the API server does not know yet, and for all objects.
    pub name: Option<&'a str>,
}

/// Whether the roles and bindings among some objects allow a request.
pub fn is_allowed(objects: &[Value], request: Request<'_>) -> bool {
    let in_namespace = typed::<RoleBinding>(objects, "RoleBinding").into_iter();
    let in_namespace = in_namespace
        .filter(|binding| {
            !request.namespace.is_empty()
                && binding.metadata.namespace.as_deref() == Some(request.namespace)
        })
        .map(|binding| (binding.role_ref, binding.subjects));
    let everywhere = typed::<ClusterRoleBinding>(objects, "ClusterRoleBinding").into_iter();
    let everywhere = everywhere.map(|binding| (binding.role_ref, binding.subjects));
    in_namespace
        .chain(everywhere)
        .filter(|(_, subjects)| subjects.iter().flatten().any(|one| is(one, request.client)))
        .flat_map(|(role, _)| rules(objects, &role, request.namespace))
        .any(|rule| permits(&rule, request))
}

fn is(subject: &Subject, client: Client<'_>) -> bool {
    match client {
        Client::ServiceAccount { namespace, name } => {
            subject.kind == "ServiceAccount"
                && subject.name == name
                && subject.namespace.as_deref() == Some(namespace)
        }
        Client::Group(name) => subject.kind == "Group" && subject.name == name,
    }
}

fn rules(objects: &[Value], reference: &RoleRef, namespace: &str) -> Vec<PolicyRule> {
    if reference.kind == "ClusterRole" {
        let roles = typed::<ClusterRole>(objects, "ClusterRole").into_iter();
        let roles = roles.filter(|role| role.metadata.name.as_deref() == Some(&*reference.name));
        return roles.flat_map(|role| role.rules.unwrap_or_default()).collect();
    }
    let roles = typed::<Role>(objects, "Role").into_iter().filter(|role| {
        role.metadata.name.as_deref() == Some(&*reference.name)
            && role.metadata.namespace.as_deref() == Some(namespace)
    });
    roles.flat_map(|role| role.rules.unwrap_or_default()).collect()
}

fn permits(rule: &PolicyRule, request: Request<'_>) -> bool {
    let has =
        |list: &[String], wanted: &str| list.iter().any(|entry| entry == wanted || entry == "*");
    let names = rule.resource_names.iter().flatten().collect::<Vec<_>>();
    has(&rule.verbs, request.verb)
        && has(rule.api_groups.as_deref().unwrap_or_default(), request.group)
        && has(rule.resources.as_deref().unwrap_or_default(), request.resource)
        && (names.is_empty() || names.iter().any(|name| Some(name.as_str()) == request.name))
}

fn typed<T: for<'a> Deserialize<'a>>(objects: &[Value], kind: &str) -> Vec<T> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.map(|object| T::deserialize(object).expect("an object of its kind")).collect()
}

/// The roles that every cluster has, as far as the manifests and the documents bind them
/// (kubernetes/kubernetes, `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`).
pub fn built_in() -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let signing = "certificatesigningrequests";
    let role = |name: &str, rules: &[(&str, &str, &[&str])]| {
        let rules = rules.iter().map(|(group, resource, verbs)| {
            json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
        });
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules.collect::<Vec<_>>(),
        })
    };
    let certificates = "certificates.k8s.io";
    let automatic = |client: &str| {
        let resource = format!("{signing}/{client}");
        let name = format!("system:{certificates}:{signing}:{client}");
        role(&name, &[(certificates, &*resource, &["create"])])
    };
    vec![
        automatic("nodeclient"),
        automatic("selfnodeclient"),
        role(
            "system:node-bootstrapper",
            &[(certificates, signing, &["create", "get", "list", "watch"])],
        ),
        role(
            "system:node-proxier",
            &[
                ("", "services", &["list", "watch"]),
                ("", "nodes", &read),
                ("", "events", &["create", "patch", "update"]),
                ("events.k8s.io", "events", &["create", "patch", "update"]),
                ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
            ],
        ),
        role(
            "system:kube-scheduler",
            &[
                ("", "nodes", &read),
                ("", "pods", &["delete", "get", "list", "watch"]),
                ("", "pods/binding", &["create"]),
                ("", "pods/status", &["patch", "update"]),
                ("", "services", &read),
                ("", "namespaces", &read),
                ("apps", "replicasets", &read),
                ("policy", "poddisruptionbudgets", &read),
                ("events.k8s.io", "events", &["create", "patch", "update"]),
                ("authentication.k8s.io", "tokenreviews", &["create"]),
                ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
            ],
        ),
        role(
            "system:volume-scheduler",
            &[
                ("", "persistentvolumes", &["get", "list", "patch", "update", "watch"]),
                ("", "persistentvolumeclaims", &["get", "list", "patch", "update", "watch"]),
                ("storage.k8s.io", "storageclasses", &read),
            ],
        ),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {
                "name": "extension-apiserver-authentication-reader",
                "namespace": "kube-system",
            },
            "rules": [{
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": ["extension-apiserver-authentication"],
                "verbs": read,
            }],
        }),
    ]
}
