//! `spotter new`: creates an application that serves the detector that comes with `spotter`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use super::build::ToolchainArguments;
use spotter_progress::print_message;

/// Create a folder with an application that serves a detector
#[derive(Args)]
pub(super) struct New {
    /// The folder; its last part is the application's name
    name: PathBuf,
    #[command(flatten)]
    toolchain: ToolchainArguments,
}

const COMPONENT_FILE: &str = "detector.wasm";

impl New {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let name = application_name(&self.name)?;
        ensure_vacant(&self.name)?;
        let component = crate::detector::component(self.toolchain.options())?;
        let write = |file: &str, content: &[u8]| {
            let path = self.name.join(file);
            std::fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))
        };
        std::fs::create_dir_all(&self.name)
            .with_context(|| format!("cannot create {}", self.name.display()))?;
        write(COMPONENT_FILE, &component)?;
        write("spin.toml", manifest(name).as_bytes())?;
        let folder = self.name.display();
        print_message(&format!("Created {folder}. Serve it with\n  cd {folder} && spotter up"));
        Ok(())
    }
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

fn manifest(name: &str) -> String {
    format!(
        r#"spin_manifest_version = 2

[application]
name = "{name}"
version = "0.1.0"
description = "Object detection: a picture in, labelled boxes out"

# Whether `GET /` serves the page: on or off.
[variables.page]
default = "on"

# The origins whose pages may read replies, such as https://example.com, or * for all.
[variables.cross_origin]
default = ""

[[trigger.http]]
route = "/..."
component = "detector"

[component.detector]
source = "{COMPONENT_FILE}"
allowed_outbound_hosts = []

# Spin ignores this table. The detector is trusted, so its code has no checks for its limit on CPU time.
[component.detector.tool.spotter]
interruption = "watchdog"
page = "{{{{ page }}}}"
cross_origin = "{{{{ cross_origin }}}}"
"#
    )
}
