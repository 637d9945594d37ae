//! Checks components without compiling or running them: that each is a component, exports an HTTP handler, and
//! imports only what the host provides.

use anyhow::{Context, bail, ensure};
use wasmparser::{Encoding, Parser, Payload};

use super::{App, Component};

/// The HTTP handlers, of which a component must export one.
const HANDLERS: [&str; 2] = ["wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3."];

/// The supported versions of WASI.
const LINKED: [&str; 2] = ["@0.2.", "@0.3."];

/// The package through which components use networks that the host runs.
const NN_PACKAGE: &str = "wasi:nn/";

/// Packages and interfaces that the host provides to every component.
const GRANTED: [&str; 12] = [
    "fermyon:spin/key-value@2.",
    "fermyon:spin/variables@2.",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:config/store@0.2.",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:keyvalue/store@0.2.",
    NN_PACKAGE,
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

/// Checks a component's file.
///
/// # Errors
/// If it is not a component, exports no HTTP handler, or imports something that the host does not provide.
pub fn component(component: &Component) -> anyhow::Result<()> {
    let path = component.source.display();
    let bytes = std::fs::read(&component.source).with_context(|| {
        format!("component `{}`: cannot read {path}; build it with `spotter build`", component.id)
    })?;
    interfaces(&bytes)
        .and_then(|interfaces| interfaces.check())
        .with_context(|| format!("component `{}` ({path})", component.id))
}

/// Whether a component uses networks that the host runs.
///
/// # Errors
/// If its file cannot be read or is not a component.
pub fn uses_nn(component: &Component) -> anyhow::Result<bool> {
    let bytes = std::fs::read(&component.source)
        .with_context(|| format!("cannot read {}", component.source.display()))?;
    Ok(interfaces(&bytes)?.imports.iter().any(|name| name.starts_with(NN_PACKAGE)))
}

/// The names of a component's imports and exports.
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
            "it exports neither {}x nor {}x; its exports: {}",
            HANDLERS[0],
            HANDLERS[1],
            list(&self.exports)
        );
        let refused: Vec<String> =
            self.imports.iter().filter(|name| !is_granted(name)).cloned().collect();
        ensure!(refused.is_empty(), "the host does not provide these imports: {}", list(&refused));
        Ok(())
    }
}

/// Reads a component's imports and exports.
///
/// # Errors
/// If the bytes are not a component.
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

/// Whether the host provides this import, by its package and, for WASI, its version.
fn is_granted(name: &str) -> bool {
    let is_other_version = name.starts_with("wasi:")
        && name.contains('@')
        && !LINKED.iter().any(|own| name.contains(own));
    !is_other_version && GRANTED.iter().any(|package| name.starts_with(package))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
