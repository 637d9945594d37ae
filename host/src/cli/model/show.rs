//! `spotter model show` and `spotter model list`: describe the models of an application, a folder or a component.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::bake::ModelFolder;
use crate::bake::description::{Description, size};
use spotter_app::routes::Target;
use spotter_app::{App, Component};
use spotter_config::suggest;
use spotter_up::AppArguments;

/// Describe a model: its inputs, outputs, head, labels, size and licence
#[derive(Args)]
pub(super) struct Show {
    /// A model or a component of the application, a model's folder, or a baked component
    #[arg(value_name = "NAME | FOLDER | FILE.wasm")]
    subject: String,
    #[command(flatten)]
    app: AppArguments,
}

/// List the models of an application, and their routes
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    app: AppArguments,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let path = Path::new(&self.subject);
        let described = if path.join("model.toml").is_file() {
            Description::from_folder(&ModelFolder::read(path)?)?.to_string()
        } else if path.extension().is_some_and(|extension| extension == "wasm") {
            describe_component(path)?.with_context(|| {
                format!("{} contains no description of its model; bake it again", path.display())
            })?
        } else {
            self.describe_in_application()?
        };
        std::io::stdout().write_all(described.as_bytes())?;
        Ok(())
    }

    fn describe_in_application(&self) -> anyhow::Result<String> {
        let app = self.app.load()?;
        let models = models(&app)?;
        let is_named =
            |id: &str, model: &Description| [id, &model.name].contains(&self.subject.as_str());
        if let Some((component, model)) =
            models.iter().find(|(component, model)| is_named(&component.id, model))
        {
            let routes = routes(&app).remove(component.id.as_str()).unwrap_or_default().join(", ");
            return Ok(format!("{model}source   {}\nroutes   {routes}\n", source(component)));
        }
        let names = models.iter().map(|(_, model)| model.name.as_str());
        let near = suggest::nearest(&self.subject, names.clone());
        match near {
            Some(near) => bail!("there is no model `{}`; did you mean `{near}`?", self.subject),
            None => bail!(
                "there is no model `{}`: it is neither a folder with a model.toml nor one of the application's \
                 models ({})",
                self.subject,
                names.collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let app = self.app.load()?;
        let mut routes = routes(&app);
        let mut out = std::io::stdout();
        for (component, model) in models(&app)? {
            let routes = routes.remove(component.id.as_str()).unwrap_or_default();
            writeln!(
                out,
                "{:<24} {:<12} {:>4} labels {:>9}  {}",
                model.name,
                model.head,
                model.labels.len(),
                size(model.network_bytes),
                routes.join(", ")
            )?;
        }
        Ok(())
    }
}

/// The components of an application that have a model.
fn models(app: &App) -> anyhow::Result<Vec<(&Component, Description)>> {
    let mut models = Vec::new();
    for component in app.components.values().chain(app.idle.values()) {
        let model = match model_folder(component) {
            Some(folder) => Some(Description::from_folder(&ModelFolder::read(folder)?)?),
            None if component.source.is_file() => read_description(&component.source)?,
            None => None,
        };
        models.extend(model.map(|model| (component, model)));
    }
    Ok(models)
}

fn model_folder(component: &Component) -> Option<&PathBuf> {
    let baked = component.bake.as_ref().and_then(|bake| bake.model.as_ref());
    baked.or_else(|| component.models.values().flatten().next())
}

fn source(component: &Component) -> String {
    model_folder(component).unwrap_or(&component.source).display().to_string()
}

/// The description of a baked component's model, with the component's size.
fn describe_component(path: &Path) -> anyhow::Result<Option<String>> {
    let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(read_description(path)?.map(|model| format!("{model}baked    {}\n", size(bytes))))
}

fn read_description(path: &Path) -> anyhow::Result<Option<Description>> {
    let shown = path.display();
    let component = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    Description::read(&component).with_context(|| shown.to_string())
}

/// The routes of each component.
fn routes(app: &App) -> BTreeMap<&str, Vec<String>> {
    let mut routes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (pattern, target) in app.routes.entries() {
        if let Target::Component(id) = target {
            routes.entry(id).or_default().push(pattern.to_string());
        }
    }
    routes
}
