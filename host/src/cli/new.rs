//! `spotter new`: creates an application from a template.

mod template;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use super::build::ToolchainArguments;
use spotter_progress::print_message;
use template::{DETECTOR_COMPONENT, Template};

/// Create a folder with an application
#[derive(Args)]
pub(super) struct New {
    /// The folder; its last part is the application's name
    name: PathBuf,
    /// What the application does
    #[arg(long, short, value_enum, default_value_t = Template::Detector)]
    template: Template,
    #[command(flatten)]
    toolchain: ToolchainArguments,
}

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let name = application_name(&self.name)?;
        ensure_vacant(&self.name)?;
        let component = match self.template {
            Template::Detector => Some(crate::detector::component(self.toolchain.options())?),
            Template::HttpRust | Template::StaticFileserver => None,
        };
        for (file, content) in self.template.files(name) {
            write(&self.name.join(file), content.as_bytes())?;
        }
        if let Some(component) = &component {
            write(&self.name.join(DETECTOR_COMPONENT), component)?;
        }
        let folder = self.name.display();
        let build = if component.is_some() { "" } else { " --build" };
        print_message(&format!(
            "Created {folder}. Serve it with\n  cd {folder} && spotter up{build}"
        ));
        Ok(())
    }
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// The application's name: the last part of the folder's path.
fn application_name(folder: &Path) -> anyhow::Result<&str> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    ensure!(
        name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.chars().all(is_plain),
        "{name:?} is not a valid application name: use a letter, then letters, digits, `-`, `_` or `.`"
    );
    Ok(name)
}

fn ensure_vacant(folder: &Path) -> anyhow::Result<()> {
    let is_vacant =
        std::fs::read_dir(folder).map_or(!folder.exists(), |mut it| it.next().is_none());
    ensure!(is_vacant, "{} already exists; choose another name", folder.display());
    Ok(())
}
