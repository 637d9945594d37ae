//! The syntax of `[[trigger.*]]` in `spin.toml`: what starts a component. Only HTTP is served.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{bail, ensure};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::component_manifest::ComponentManifest;

/// All triggers of an application.
#[derive(Debug, Default)]
pub struct Triggers {
    pub http: Vec<HttpTrigger>,
    /// The types of the others, such as `redis`.
    pub other: Vec<String>,
}

/// `[[trigger.http]]`: a route with its component or static response.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    #[serde(default)]
    pub id: Option<String>,
    pub route: Route,
    pub component: Option<ComponentReference>,
    pub static_response: Option<StaticResponse>,
    pub executor: Option<ExecutorManifest>,
}

/// A component: the id of a `[component.ID]`, or the component itself.
#[derive(Debug)]
pub struct ComponentReference {
    pub id: String,
    inline: Option<Box<ComponentManifest>>,
}

/// `executor`: how requests reach the component.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutorManifest {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
}

/// How requests reach a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Executor {
    /// The component exports an HTTP handler.
    #[default]
    Http,
    /// The component is a command, which runs as a CGI program. Its arguments are a template: words, in which
    /// `${SCRIPT_NAME}` stands for the request's path and `${ARGS}` for the parts of its query.
    Wagi { argv: String },
}

impl HttpTrigger {
    fn executor(&self) -> anyhow::Result<Executor> {
        const DEFAULT_ARGV: &str = "${SCRIPT_NAME} ${ARGS}";
        const ENTRYPOINT: &str = "_start";
        let (Some(executor), route) = (&self.executor, &self.route) else {
            return Ok(Executor::Http);
        };
        match executor.kind.as_str() {
            // The default, and its former name.
            "http" | "spin" => {
                ensure!(
                    executor.argv.is_none() && executor.entrypoint.is_none(),
                    "the trigger of {route} has `argv` or `entrypoint`; only the executor `wagi` accepts them"
                );
                Ok(Executor::Http)
            }
            "wagi" => {
                let entrypoint = executor.entrypoint.as_deref().unwrap_or(ENTRYPOINT);
                ensure!(
                    entrypoint == ENTRYPOINT,
                    "the trigger of {route} has the `entrypoint` {entrypoint:?}; a command begins at `{ENTRYPOINT}`: \
                     remove the key"
                );
                let argv = executor.argv.as_deref().unwrap_or(DEFAULT_ARGV);
                Ok(Executor::Wagi { argv: argv.to_owned() })
            }
            other => bail!(
                "the trigger of {route} has the executor `{other}`, which is not supported; use `http` or `wagi`"
            ),
        }
    }
}

/// The executor of each component that a trigger names.
///
/// # Errors
/// If an executor is not supported, or two triggers give a component different ones.
pub fn executors(triggers: &[HttpTrigger]) -> anyhow::Result<BTreeMap<String, Executor>> {
    let mut executors = BTreeMap::new();
    for trigger in triggers {
        let executor = trigger.executor()?;
        let Some(component) = &trigger.component else { continue };
        let first = executors.entry(component.id.clone()).or_insert_with(|| executor.clone());
        ensure!(
            *first == executor,
            "the triggers of `{}` have different executors; declare the component once for each of them",
            component.id
        );
    }
    Ok(executors)
}

/// `static_response`: a fixed reply without a component.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticResponse {
    pub status_code: Option<u16>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
}

/// A path pattern, or `{ private = true }` for a component that only other components call.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`route` must be a path such as \"/...\", or { private = true }")]
pub enum Route {
    Path(String),
    Private { private: bool },
}

impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "{path}"),
            Self::Private { .. } => write!(formatter, "a private component"),
        }
    }
}

impl Triggers {
    /// Moves the components that stand in triggers to the others, under ids like those that Spin gives them.
    pub fn move_inline_components(&mut self, components: &mut BTreeMap<String, ComponentManifest>) {
        for (index, trigger) in self.http.iter_mut().enumerate() {
            let Some(reference) = &mut trigger.component else { continue };
            let Some(component) = reference.inline.take() else { continue };
            let id = match &trigger.id {
                Some(id) => format!("{id}-component"),
                None => format!("http-trigger{}-component", index + 1),
            };
            let numbered = (1..).map(|number| format!("inline-component{number}"));
            let mut ids = std::iter::once(id).chain(numbered);
            if let Some(id) = ids.find(|id| !components.contains_key(id)) {
                reference.id.clone_from(&id);
                components.insert(id, *component);
            }
        }
    }
}

// Both are written by hand: the errors of the derived forms (`flatten`, `untagged`) name neither line nor key.

impl<'de> Deserialize<'de> for Triggers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByType;
        impl<'de> Visitor<'de> for ByType {
            type Value = Triggers;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "triggers by type, such as [[trigger.http]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Triggers, A::Error> {
                let mut triggers = Triggers::default();
                while let Some(kind) = map.next_key::<String>()? {
                    if kind == "http" {
                        triggers.http = map.next_value()?;
                    } else {
                        map.next_value::<toml::Value>()?;
                        triggers.other.push(kind);
                    }
                }
                Ok(triggers)
            }
        }
        deserializer.deserialize_map(ByType)
    }
}

impl<'de> Deserialize<'de> for ComponentReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdOrTable;
        impl<'de> Visitor<'de> for IdOrTable {
            type Value = ComponentReference;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    formatter,
                    "the id of a component, or a table such as {{ source = \"a.wasm\" }}"
                )
            }

            fn visit_str<E>(self, id: &str) -> Result<ComponentReference, E> {
                Ok(ComponentReference { id: id.to_owned(), inline: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ComponentReference, A::Error> {
                let component = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ComponentReference { id: String::new(), inline: Some(component) })
            }
        }
        deserializer.deserialize_any(IdOrTable)
    }
}
