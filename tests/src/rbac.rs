//! Kubernetes' authorization by roles (RBAC), evaluated over rendered manifests: what a service account may do.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use serde::Deserialize;
use serde_json::Value;

/// A request to the API server for an object in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The namespace and name of the service account that makes the request.
    pub account: (&'a str, &'a str),
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub namespace: &'a str,
    /// `None` to create an object: the API server does not know its name yet.
    pub name: Option<&'a str>,
}

/// Whether the Roles among some objects allow a request, as in
/// <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.
pub fn is_allowed(objects: &[Value], request: Request<'_>) -> bool {
    let bindings = typed::<RoleBinding>(objects, "RoleBinding");
    bindings
        .iter()
        .filter(|binding| binding.metadata.namespace.as_deref() == Some(request.namespace))
        .filter(|binding| binds(binding, request.account))
        .flat_map(|binding| rules(objects, binding))
        .any(|rule| permits(&rule, request))
}

fn binds(binding: &RoleBinding, (namespace, name): (&str, &str)) -> bool {
    binding.subjects.iter().flatten().any(|subject| {
        subject.kind == "ServiceAccount"
            && subject.name == name
            && subject.namespace.as_deref() == Some(namespace)
    })
}

fn rules(objects: &[Value], binding: &RoleBinding) -> Vec<PolicyRule> {
    let reference = &binding.role_ref;
    let roles = typed::<Role>(objects, "Role").into_iter().filter(|role| {
        reference.kind == "Role"
            && role.metadata.name.as_deref() == Some(&*reference.name)
            && role.metadata.namespace == binding.metadata.namespace
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
