//! What can be said of a component without compiling or running it: that it is one, that it
//! answers HTTP, and that nothing it imports would be refused.

use anyhow::{Context, bail, ensure};
use wasmparser::{Encoding, Parser, Payload};

use super::{App, Component};

/// The exports that make a component a function.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3."];

/// The versions of WASI that are linked.
const LINKED: [&str; 2] = ["@0.2.", "@0.3."];

/// Packages whose interfaces every component is given.
const GRANTED: [&str; 11] = [
    "fermyon:spin/key-value@2.",
    "fermyon:spin/variables@2.",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:config/store@0.2.",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:keyvalue/store@0.2.",
    "wasi:random/",
    "wasi:sockets/",
];

/// Checks the file of every component.
///
/// # Errors
/// Those of [`component`].
pub fn application(app: &App) -> anyhow::Result<()> {
    app.components.values().try_for_each(component)
}

/// Checks the component's file.
///
/// # Errors
/// Says what it is instead of a component, lacks, or asks for.
pub fn component(component: &Component) -> anyhow::Result<()> {
    let path = component.source.display();
    let bytes = std::fs::read(&component.source).with_context(|| {
        format!("component `{}`: cannot read {path}; build it with `spotter build`", component.id)
    })?;
    interfaces(&bytes)
        .and_then(|interfaces| interfaces.check())
        .with_context(|| format!("component `{}` ({path})", component.id))
}

/// The names of what a component imports and exports.
pub struct Interfaces {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

impl Interfaces {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.exports
                .iter()
                .any(|name| HANDLERS.iter().any(|handler| name.starts_with(handler))),
            "it exports neither {}x nor {}x but {}",
            HANDLERS[0],
            HANDLERS[1],
            list(&self.exports)
        );
        let refused: Vec<String> =
            self.imports.iter().filter(|name| !is_granted(name)).cloned().collect();
        ensure!(refused.is_empty(), "it imports what is not granted: {}", list(&refused));
        Ok(())
    }
}

/// Reads a component's imports and exports.
///
/// # Errors
/// Says what the bytes are instead of a component.
pub fn interfaces(bytes: &[u8]) -> anyhow::Result<Interfaces> {
    let mut interfaces = Interfaces { imports: Vec::new(), exports: Vec::new() };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.context("it is not WebAssembly")? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                bail!("it is a core module, not a component; `spotter build` wraps it")
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    interfaces
                        .imports
                        .push(import.context("a malformed import")?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    interfaces
                        .exports
                        .push(export.context("a malformed export")?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(interfaces)
}

/// By its package, and for those of WASI by the version that is linked.
fn is_granted(name: &str) -> bool {
    let is_other_version = name.starts_with("wasi:")
        && name.contains('@')
        && !LINKED.iter().any(|own| name.contains(own));
    !is_other_version && GRANTED.iter().any(|package| name.starts_with(package))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
