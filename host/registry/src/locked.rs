//! The locked application: the form of a manifest that `spin registry push` writes, with a digest for every file
//! (<https://github.com/spinframework/spin/blob/main/crates/locked-app/src/locked.rs>).

use std::collections::BTreeMap;
use std::path::{Component as PathPart, Path};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::settings;
use spotter_app::manifest::Manifest;
use spotter_app::triggers::{HttpTrigger, Route};

/// The version of the format that this program writes.
const LOCK_VERSION: u64 = 1;

/// A whole application.
#[derive(Debug, Deserialize, Serialize)]
pub struct LockedApp {
    pub spin_lock_version: u64,
    #[serde(default)]
    pub metadata: Map<String, Value>,
    #[serde(default)]
    pub variables: Map<String, Value>,
    pub triggers: Vec<LockedTrigger>,
    pub components: Vec<LockedComponent>,
}

/// What starts a component.
#[derive(Debug, Deserialize, Serialize)]
pub struct LockedTrigger {
    pub id: String,
    pub trigger_type: String,
    pub trigger_config: Map<String, Value>,
}

/// One component.
#[derive(Debug, Deserialize, Serialize)]
pub struct LockedComponent {
    pub id: String,
    #[serde(default)]
    pub metadata: Map<String, Value>,
    pub source: LockedSource,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub files: Vec<LockedFile>,
    /// The values of its variables, as templates.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// A component's source.
#[derive(Debug, Deserialize, Serialize)]
pub struct LockedSource {
    pub content_type: String,
    #[serde(flatten)]
    pub content: Content,
}

/// A file that a component may read, and its path in the component.
#[derive(Debug, Deserialize, Serialize)]
pub struct LockedFile {
    #[serde(flatten)]
    pub content: Content,
    pub path: String,
}

/// Content: a layer with this digest, or inline in base64.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
}

/// The content of one component, each part of it a layer.
pub struct ComponentContent {
    pub source: Content,
    pub files: Vec<LockedFile>,
    pub models: LockedModels,
}

/// The files of each model that the host runs for a component, by the model's name. Spin ignores them.
pub type LockedModels = BTreeMap<String, Vec<LockedFile>>;

/// The key of [`LockedModels`] in a component's metadata.
const MODELS_KEY: &str = "spotter_models";

impl LockedApp {
    /// Locks a manifest. `contents` has the content of each component, by id.
    ///
    /// # Errors
    /// If a component is not in `contents`.
    pub fn from_manifest(
        manifest: Manifest,
        mut contents: BTreeMap<String, ComponentContent>,
    ) -> anyhow::Result<Self> {
        let application = manifest.application;
        let mut metadata = Map::new();
        for (key, value) in [
            ("name", application.name),
            ("version", application.version),
            ("description", application.description),
        ] {
            metadata.insert(key.to_owned(), Value::String(value));
        }
        let variables = manifest.variables.into_iter();
        let variables = variables.map(|(name, declared)| match declared.default {
            Some(default) => (name, json!({"default": default, "secret": declared.secret})),
            None => (name, json!({"secret": declared.secret})),
        });
        let triggers = manifest.trigger.http.into_iter().enumerate();
        let triggers = triggers.map(|(number, trigger)| lock_trigger(number, trigger));
        let components = manifest.component.into_iter().map(|(id, component)| {
            let ComponentContent { source, files, models } =
                contents.remove(&id).with_context(|| format!("`{id}` has no content"))?;
            let mut metadata = Map::new();
            metadata.insert("description".into(), component.description.into());
            metadata
                .insert("allowed_outbound_hosts".into(), component.allowed_outbound_hosts.into());
            metadata.insert("key_value_stores".into(), component.key_value_stores.into());
            metadata.insert("databases".into(), component.sqlite_databases.into());
            metadata.insert("ai_models".into(), component.ai_models.into());
            if !models.is_empty() {
                metadata.insert(MODELS_KEY.into(), serde_json::to_value(models)?);
            }
            metadata.extend(settings::to_metadata(component.tool.spotter.unwrap_or_default()));
            Ok(LockedComponent {
                id,
                metadata,
                source: LockedSource { content_type: "application/wasm".into(), content: source },
                env: component.environment,
                files,
                config: component.variables,
            })
        });
        Ok(Self {
            spin_lock_version: LOCK_VERSION,
            metadata,
            variables: variables.collect(),
            triggers: triggers.collect(),
            components: components.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Converts it back to a manifest, with each component in `ID.wasm`, its files below `files/ID`, and its models
    /// in folders of [`model_folder`].
    ///
    /// # Errors
    /// If a trigger is not HTTP, or a component's id is not a valid file name.
    pub fn to_manifest(&self) -> anyhow::Result<Value> {
        ensure!(
            self.spin_lock_version <= LOCK_VERSION,
            "the application has lock version {}; only versions up to {LOCK_VERSION} are supported",
            self.spin_lock_version
        );
        let triggers = self.triggers.iter().map(|trigger| {
            ensure!(
                trigger.trigger_type == "http",
                "the trigger `{}` is of type {}; only http is supported",
                trigger.id,
                trigger.trigger_type
            );
            let mut config = trigger.trigger_config.clone();
            config.retain(|key, value| {
                let known = ["route", "component", "static_response", "executor"];
                known.contains(&key.as_str()) && !value.is_null()
            });
            Ok(Value::Object(config))
        });
        let triggers: Vec<Value> = triggers.collect::<anyhow::Result<_>>()?;
        let mut components = Map::new();
        for component in &self.components {
            components.insert(component.id.clone(), component.to_manifest()?);
        }
        let text = |key: &str| self.metadata.get(key).and_then(Value::as_str).unwrap_or_default();
        Ok(json!({
            "spin_manifest_version": 2,
            "application": {
                "name": text("name"), "version": text("version"), "description": text("description"),
            },
            "variables": self.variables.iter().map(|(name, declared)| {
                (name.clone(), variable(declared))
            }).collect::<Map<_, _>>(),
            "trigger": {"http": triggers},
            "component": components,
        }))
    }
}

impl LockedComponent {
    /// The models that the host runs for it.
    ///
    /// # Errors
    /// If they are malformed, or one has a name that is not a valid file name.
    pub fn models(&self) -> anyhow::Result<LockedModels> {
        let Some(models) = self.metadata.get(MODELS_KEY) else { return Ok(LockedModels::new()) };
        let models: LockedModels =
            serde_json::from_value(models.clone()).context("cannot read its models")?;
        models.keys().try_for_each(|name| plain_name(name))?;
        Ok(models)
    }

    fn to_manifest(&self) -> anyhow::Result<Value> {
        plain_name(&self.id)?;
        let listed = |key: &str| self.metadata.get(key).cloned().unwrap_or_else(|| json!([]));
        let mut component = json!({
            "source": format!("{}.wasm", self.id),
            "environment": self.env,
            "allowed_outbound_hosts": listed("allowed_outbound_hosts"),
            "key_value_stores": listed("key_value_stores"),
            "ai_models": listed("ai_models"),
            "sqlite_databases": listed("databases"),
            "variables": self.config,
        });
        if !self.files.is_empty() {
            let source = format!("files/{}", self.id);
            component["files"] = json!([{"source": source, "destination": "/"}]);
        }
        let models: Map<String, Value> = self
            .models()?
            .into_keys()
            .map(|name| (name.clone(), model_folder(&self.id, &name).into()))
            .collect();
        let mut tool = settings::from_metadata(&self.metadata);
        if !models.is_empty() {
            tool.insert("models".to_owned(), models.into());
        }
        if !tool.is_empty() {
            component["tool"] = json!({"spotter": tool});
        }
        Ok(component)
    }
}

fn variable(declared: &Value) -> Value {
    let secret = declared.get("secret").and_then(Value::as_bool).unwrap_or_default();
    match declared.get("default").filter(|default| default.is_string()) {
        Some(default) => json!({"default": default, "secret": secret}),
        None => json!({"required": true, "secret": secret}),
    }
}

fn lock_trigger(number: usize, trigger: HttpTrigger) -> LockedTrigger {
    let mut config = Map::new();
    let route = match trigger.route {
        Route::Path(path) => json!(path),
        Route::Private { private } => json!({"private": private}),
    };
    config.insert("route".into(), route);
    if let Some(component) = trigger.component {
        config.insert("component".into(), component.id.into());
    }
    if let Some(reply) = trigger.static_response {
        let mut fixed = json!({"headers": reply.headers, "body": reply.body});
        if let Some(status) = reply.status_code {
            fixed["status_code"] = status.into();
        }
        config.insert("static_response".into(), fixed);
    }
    if let Some(executor) = &trigger.executor {
        config.insert("executor".into(), json!(executor));
    }
    LockedTrigger {
        id: trigger.id.unwrap_or_else(|| format!("trigger--{number}")),
        trigger_type: "http".into(),
        trigger_config: config,
    }
}

/// The folder of a component's model, relative to the manifest.
pub fn model_folder(component: &str, model: &str) -> String {
    format!("models/{component}/{model}")
}

/// Checks that a component's id or a model's name is a plain file name: images are not trusted.
///
/// # Errors
/// If it is not.
pub fn plain_name(name: &str) -> anyhow::Result<()> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    ensure!(
        !name.is_empty() && name.chars().all(is_plain),
        "{name:?} is not a valid name of a component or model: use letters, digits, - and _"
    );
    Ok(())
}

/// The deepest folder of a component's file.
const MAX_PATH_PARTS: usize = 64;

/// Makes a file's path relative to its component's root.
///
/// # Errors
/// If the path leads out of it, or is too deep.
pub fn inner_path(path: &str) -> anyhow::Result<&Path> {
    let inner = Path::new(path.trim_start_matches('/'));
    let stays = inner.components().all(|part| matches!(part, PathPart::Normal(_)));
    if !stays || inner.as_os_str().is_empty() {
        bail!("the file {path:?} is not below the component's root");
    }
    let parts = inner.components().count();
    ensure!(
        parts <= MAX_PATH_PARTS,
        "the path of a file has {parts} parts; the maximum is {MAX_PATH_PARTS}"
    );
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::{LockedApp, inner_path, plain_name};
    use spotter_app::manifest::Manifest;
    use std::collections::BTreeMap;

    #[test]
    fn what_spin_has_locked_becomes_a_manifest() {
        let locked: LockedApp = serde_json::from_str(
            r#"{"spin_lock_version": 1, "metadata": {"name": "shop", "trigger": {"type": "http"}},
                "variables": {"city": {"default": "Paris"}, "key": {"secret": true}},
                "triggers": [{"id": "trigger--web", "trigger_type": "http",
                    "trigger_config": {"component": "web", "executor": null, "route": "/..."}}],
                "components": [{"id": "web", "metadata": {"allowed_outbound_hosts": ["https://a.b"]},
                    "source": {"content_type": "application/wasm", "digest": "sha256:12"},
                    "env": {"A": "b"}, "config": {"town": "{{ city }}"},
                    "files": [{"inline": "aGk=", "path": "/hi.txt"}]}]}"#,
        )
        .unwrap();
        let text = toml::to_string(&locked.to_manifest().unwrap()).unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.application.name, "shop");
        assert!(manifest.variables["key"].required && !manifest.variables["city"].required);
        let web = &manifest.component["web"];
        assert_eq!(web.allowed_outbound_hosts, ["https://a.b"]);
        assert_eq!(web.variables["town"], "{{ city }}");
        assert_eq!(web.files.len(), 1);
    }

    #[test]
    fn what_a_component_is_granted_and_how_it_is_called_survive_locking() {
        let text = "spin_manifest_version = 2\n[application]\nname = \"a\"\n\
                    [[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n\
                    executor = { type = \"wagi\", argv = \"a b\" }\n\
                    [component.a]\nsource = \"a.wasm\"\nkey_value_stores = [\"default\"]\n\
                    sqlite_databases = [\"default\"]\n\
                    [component.a.tool.spotter]\npage = \"{{ page }}\"\ncross_origin = \"*\"\n";
        let content = super::ComponentContent {
            source: super::Content::default(),
            files: Vec::new(),
            models: super::LockedModels::new(),
        };
        let contents = BTreeMap::from([("a".to_owned(), content)]);
        let locked = LockedApp::from_manifest(Manifest::parse(text).unwrap(), contents).unwrap();
        let text = toml::to_string(&locked.to_manifest().unwrap()).unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.component["a"].sqlite_databases, ["default"]);
        assert_eq!(manifest.component["a"].key_value_stores, ["default"]);
        let tool = manifest.component["a"].tool.spotter.as_ref().unwrap();
        assert_eq!(tool.page.as_deref(), Some("{{ page }}"));
        assert_eq!(tool.cross_origin.as_deref(), Some("*"));
        let executor = manifest.trigger.http[0].executor.as_ref().unwrap();
        assert_eq!((executor.kind.as_str(), executor.argv.as_deref()), ("wagi", Some("a b")));
    }

    #[test]
    fn other_triggers_and_later_versions_are_refused() {
        for (version, kind, reason) in [(1, "redis", "type redis"), (2, "http", "version 2")] {
            let text = format!(
                r#"{{"spin_lock_version": {version}, "components": [], "triggers":
                    [{{"id": "t", "trigger_type": "{kind}", "trigger_config": {{}}}}]}}"#
            );
            let locked: LockedApp = serde_json::from_str(&text).unwrap();
            let error = locked.to_manifest().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_component_without_bytes_is_refused() {
        let text = "spin_manifest_version = 2\n[application]\nname = \"a\"\n\
                    [[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n\
                    [component.a]\nsource = \"a.wasm\"\n";
        let manifest = Manifest::parse(text).unwrap();
        assert!(LockedApp::from_manifest(manifest, BTreeMap::new()).is_err());
    }

    #[test]
    fn no_name_and_no_path_leads_out() {
        for name in ["", "..", "a/b", "a.b", "/"] {
            assert!(plain_name(name).is_err(), "{name}");
        }
        for path in ["", "/", "..", "/../a", "a/../../b"] {
            assert!(inner_path(path).is_err(), "{path}");
        }
        assert_eq!(inner_path("/a/b.txt").unwrap().to_str(), Some("a/b.txt"));
    }
}
