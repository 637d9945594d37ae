//! Adds a model's component and routes to `spin.toml`, whose comments and order stay as they are.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use spotter_app::manifest::Manifest;

/// A component to add.
pub(super) struct Addition {
    /// The component's id, and the first part of its routes.
    pub(super) id: String,
    /// The component's file, relative to the manifest.
    pub(super) source: PathBuf,
    name: String,
    /// The browser settings of another component of the application: keys of `tool.spotter`.
    browsers: Vec<(&'static str, String)>,
}

impl Addition {
    /// A component for the model of this name.
    ///
    /// # Errors
    /// If the name cannot be part of a route, or the application has a component of that name.
    pub(super) fn new(name: &str, manifest: &Manifest) -> anyhow::Result<Self> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        ensure!(
            name.starts_with(|first: char| first.is_ascii_alphabetic())
                && name.chars().all(is_plain),
            "{name:?} cannot be a model's name in an application: use a letter, then letters, digits, `-`, `_` or \
             `.`; choose another --name"
        );
        // Spin asks for kebab case.
        let id = name.to_ascii_lowercase().replace(['_', '.'], "-");
        ensure!(
            !manifest.component.contains_key(&id),
            "there is a [component.{id}] already; choose another --name"
        );
        let source = PathBuf::from(format!("models/{id}.wasm"));
        Ok(Self { id, source, name: name.to_owned(), browsers: browsers(manifest) })
    }

    /// The manifest's text with the component, which is baked from `module`, and its routes.
    ///
    /// # Errors
    /// If the manifest has triggers or components in a form that cannot be added to.
    pub(super) fn edit(&self, text: &str, module: &Path) -> anyhow::Result<String> {
        let mut document: DocumentMut = text.parse()?;
        let triggers = document
            .entry("trigger")
            .or_insert(Item::Table(implicit()))
            .as_table_mut()
            .context("`trigger` is not a table")?
            .entry("http")
            .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let Some(triggers) = triggers.as_array_of_tables_mut() else {
            bail!("`trigger.http` is not written as [[trigger.http]], so no route can be added");
        };
        for route in self.routes() {
            let mut trigger = Table::new();
            trigger["route"] = value(route);
            trigger["component"] = value(self.id.as_str());
            triggers.push(trigger);
        }
        let components = document
            .entry("component")
            .or_insert(Item::Table(implicit()))
            .as_table_mut()
            .context("`component` is not a table")?;
        components.insert(&self.id, Item::Table(self.component(module)));
        let edited = document.to_string();
        Manifest::parse(&edited).context("with this model, the manifest would not be valid")?;
        Ok(edited)
    }

    /// Every API of the component below its id, and those paths of other servers' APIs that name a model.
    fn routes(&self) -> [String; 7] {
        let Self { id, name, .. } = self;
        [
            format!("/{id}/..."),
            format!("/v1/vision/custom/{name}"),
            format!("/v2/models/{name}"),
            format!("/v2/models/{name}/:action"),
            format!("/v2/models/{name}/versions/:version"),
            format!("/v2/models/{name}/versions/:version/:action"),
            format!("/models/{name}"),
        ]
    }

    fn component(&self, module: &Path) -> Table {
        let path = |path: &Path| value(path.to_string_lossy().into_owned());
        let mut tool = Table::new();
        tool["module"] = path(module);
        tool["model"] = value(format!("models/{}", self.id));
        // As `spotter new` has it: the detector is trusted.
        tool["interruption"] = value("watchdog");
        for (key, template) in &self.browsers {
            tool[*key] = value(template.as_str());
        }
        let mut tools = implicit();
        tools["spotter"] = Item::Table(tool);
        let mut component = Table::new();
        component["source"] = path(&self.source);
        component["allowed_outbound_hosts"] = value(toml_edit::Array::new());
        component["tool"] = Item::Table(tools);
        component
    }
}

/// The module from which another component of the application is baked.
pub(super) fn module(manifest: &Manifest) -> Option<PathBuf> {
    let tools = manifest.component.values().filter_map(|component| component.tool.spotter.as_ref());
    tools.filter(|tool| tool.model.is_some()).find_map(|tool| tool.module.clone())
}

/// The settings for browsers of the first component that has any.
fn browsers(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let tools = manifest.component.values().filter_map(|component| component.tool.spotter.as_ref());
    let settings = tools.map(|tool| [("page", &tool.page), ("cross_origin", &tool.cross_origin)]);
    let given = settings.map(|settings| {
        let given = settings.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        given.collect::<Vec<_>>()
    });
    given.into_iter().find(|given| !given.is_empty()).unwrap_or_default()
}

/// A table whose header is not written.
fn implicit() -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    table
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Addition, module};
    use spotter_app::manifest::Manifest;

    const TEXT: &str = "spin_manifest_version = 2\n\n[application]\nname = \"a\"\n\n# All paths.\n[[trigger.http]]\n\
                        route = \"/...\"\ncomponent = \"detector\"\n\n[component.detector]\nsource = \"d.wasm\" # Baked.\n\
                        [component.detector.tool.spotter]\npage = \"{{ page }}\"\n";

    #[test]
    fn a_component_is_added_and_the_rest_stays() {
        let manifest = Manifest::parse(TEXT).unwrap();
        assert_eq!(module(&manifest), None);
        let addition = Addition::new("yolo_v8", &manifest).unwrap();
        let edited = addition.edit(TEXT, Path::new("m.wasm")).unwrap();
        for line in TEXT.lines() {
            assert!(edited.contains(line), "{edited} lacks {line}");
        }
        let manifest = Manifest::parse(&edited).unwrap();
        assert_eq!(manifest.trigger.http.len(), 8);
        assert_eq!(module(&manifest).as_deref(), Some(Path::new("m.wasm")));
        let tool = manifest.component["yolo-v8"].tool.spotter.as_ref().unwrap();
        assert_eq!((tool.page.as_deref(), &tool.cross_origin), (Some("{{ page }}"), &None));
        assert!(Addition::new("yolo_v8", &manifest).is_err(), "twice");
        assert!(edited.contains("[component.yolo-v8]\n"), "{edited}");
        for name in ["", "../x", "a b", "8"] {
            assert!(Addition::new(name, &manifest).is_err(), "{name}");
        }
    }
}
