//! Checks components without compiling or running them: that each is a component, exports what its executor calls,
//! and imports only what the host provides.

use anyhow::{Context, bail, ensure};
use wasmparser::{Encoding, Parser, Payload};

use crate::triggers::Executor;

/// The HTTP handlers and their versions. A component must export one of them.
const HANDLER_EXPORTS: [(&str, &str); 2] =
    [("wasi:http/incoming-handler", "0.2"), ("wasi:http/handler", "0.3")];

/// What a command exports, and its version.
const COMMAND_EXPORT: (&str, &str) = ("wasi:cli/run", "0.2");

/// The package through which components use networks that the host runs.
const NN_PACKAGE: &str = "wasi:nn";

/// The package of the empty interfaces that replace, for an isolated dependency, those through which its component gets
/// what the manifest grants.
pub const ISOLATED_PACKAGE: &str = "spotter:isolated";

/// What the host provides to every component: packages, their versions, and interfaces. A version stands for those
/// that are compatible with it, a release candidate only for itself.
const GRANTED_IMPORTS: [(&str, &[&str], &[&str]); 29] = [
    ("fermyon:spin", &["2"], &["key-value", "llm", "mqtt", "mysql", "postgres"]),
    ("fermyon:spin", &["2"], &["rdbms-types", "redis", "sqlite", "variables"]),
    ("spin:key-value", &["3"], &["key-value"]),
    ("spin:mqtt", &["3"], &["mqtt"]),
    ("spin:mysql", &["3"], &["mysql"]),
    ("spin:postgres", &["3", "4"], &["postgres"]),
    ("spin:redis", &["3"], &["redis"]),
    ("spin:sqlite", &["3"], &["sqlite"]),
    ("spin:variables", &["3"], &["variables"]),
    (
        ISOLATED_PACKAGE,
        &["0.2"],
        &["environment", "preopens", "tcp-create-socket", "udp-create-socket"],
    ),
    ("wasi:cli", &["0.2", "0.3"], &["environment", "exit", "stderr", "stdin", "stdout"]),
    ("wasi:cli", &["0.2", "0.3"], &["terminal-input", "terminal-output"]),
    ("wasi:cli", &["0.2", "0.3"], &["terminal-stderr", "terminal-stdin", "terminal-stdout"]),
    ("wasi:cli", &["0.3"], &["types"]),
    ("wasi:clocks", &["0.2"], &["monotonic-clock", "wall-clock"]),
    ("wasi:clocks", &["0.3"], &["monotonic-clock", "system-clock", "types"]),
    ("wasi:config", &["0.2.0-draft-2024-09-27", "0.2.0-rc.1"], &["store"]),
    ("wasi:filesystem", &["0.2", "0.3"], &["preopens", "types"]),
    ("wasi:http", &["0.2", "0.2.0-rc-2023-10-18"], &["outgoing-handler", "types"]),
    ("wasi:http", &["0.2.0-rc-2023-11-10"], &["types"]),
    ("wasi:http", &["0.3"], &["client", "types"]),
    ("wasi:io", &["0.2"], &["error", "poll", "streams"]),
    ("wasi:io", &["0.2.0-rc-2023-10-18"], &["poll", "streams"]),
    ("wasi:keyvalue", &["0.2.0-draft2"], &["atomics", "batch", "store"]),
    (NN_PACKAGE, &["0.2.0-rc-2024-10-28"], &["errors", "graph", "inference", "tensor"]),
    ("wasi:random", &["0.2", "0.3"], &["insecure", "insecure-seed", "random"]),
    ("wasi:sockets", &["0.2"], &["instance-network", "ip-name-lookup", "network", "tcp", "udp"]),
    ("wasi:sockets", &["0.2"], &["tcp-create-socket", "udp-create-socket"]),
    ("wasi:sockets", &["0.3"], &["ip-name-lookup", "types"]),
];

/// Checks a component.
///
/// # Errors
/// If it is not a component, does not export what its executor calls, or imports something that the host does not
/// provide. The error lists all such imports.
pub fn component(bytes: &[u8], executor: &Executor) -> anyhow::Result<()> {
    interfaces(bytes)?.check(executor)
}

/// Whether an import is for networks that the host runs.
pub fn is_nn(import: &str) -> bool {
    import.split_once('/').is_some_and(|(package, _)| package == NN_PACKAGE)
}

/// Whether a component uses networks that the host runs.
///
/// # Errors
/// If the bytes are not a component.
pub fn uses_nn(bytes: &[u8]) -> anyhow::Result<bool> {
    Ok(interfaces(bytes)?.imports.iter().any(|import| is_nn(import)))
}

/// The names of a component's imports and exports.
pub struct Interfaces {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

impl Interfaces {
    fn check(&self, executor: &Executor) -> anyhow::Result<()> {
        let (command, of_command) = COMMAND_EXPORT;
        let is_command = self.exports.iter().any(|name| is_export(name, COMMAND_EXPORT));
        if let Executor::Wagi { .. } = executor {
            ensure!(
                is_command,
                "the executor `wagi` needs a command, but it does not export {command}@{of_command}.x; its exports: {}",
                list(&self.exports)
            );
        } else {
            let [(first, of_first), (second, of_second)] = HANDLER_EXPORTS;
            let hint = if is_command {
                "; it is a command: give its trigger the executor `wagi` to run it as a CGI program"
            } else {
                ""
            };
            ensure!(
                self.exports.iter().any(|name| is_handler(name)),
                "it exports neither {first}@{of_first}.x nor {second}@{of_second}.x; its exports: {}{hint}",
                list(&self.exports)
            );
        }
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
                bail!("it is a core module, not a component")
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

fn is_handler(export: &str) -> bool {
    HANDLER_EXPORTS.iter().any(|handler| is_export(export, *handler))
}

fn is_export(export: &str, (own, series): (&str, &str)) -> bool {
    let Some((name, version)) = export.split_once('@') else { return false };
    name == own && is_compatible(version, series)
}

fn is_granted(import: &str) -> bool {
    let Some((name, version)) = import.split_once('@') else { return false };
    let Some((package, interface)) = name.split_once('/') else { return false };
    GRANTED_IMPORTS.iter().any(|(own, versions, interfaces)| {
        package == *own
            && interfaces.contains(&interface)
            && versions.iter().any(|series| is_compatible(version, series))
    })
}

/// Whether a version is of a series such as `0.2`, and no release candidate, unless the series names that one.
fn is_compatible(version: &str, series: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let rest = version.strip_prefix(series).and_then(|rest| rest.strip_prefix('.'));
    version == series && series.contains('-')
        || rest.is_some_and(|rest| rest.split('.').all(is_number))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::{is_granted, is_handler};

    #[test]
    fn compatible_versions_are_granted_and_candidates_only_by_name() {
        for import in [
            "wasi:http/types@0.2.0",
            "wasi:http/types@0.2.12",
            "wasi:http/client@0.3.0",
            "wasi:config/store@0.2.0-rc.1",
            "fermyon:spin/variables@2.0.0",
            "spin:sqlite/sqlite@3.0.0",
            "spin:sqlite/sqlite@3.1.0",
            "spin:postgres/postgres@4.2.0",
            "wasi:config/store@0.2.0-draft-2024-09-27",
            "wasi:http/types@0.2.0-rc-2023-10-18",
            "wasi:http/types@0.2.0-rc-2023-11-10",
        ] {
            assert!(is_granted(import), "{import}");
        }
        for import in [
            "wasi:http/types",
            "wasi:http/types@0.2",
            "wasi:http/types@0.20.0",
            "wasi:http/types@0.2.0-rc-2024-01-16",
            "wasi:io/error@0.2.0-rc-2023-10-18",
            "wasi:http/client@0.2.0",
            "wasi:http/client@0.3.0-rc-2026-03-15",
            "fermyon:spin/variables@3.0.0",
            "spin:sqlite/sqlite@2.0.0",
            "log",
        ] {
            assert!(!is_granted(import), "{import}");
        }
        assert!(
            is_handler("wasi:http/incoming-handler@0.2.3") && is_handler("wasi:http/handler@0.3.1")
        );
        assert!(!is_handler("wasi:http/incoming-handler@0.2.0-rc-2023-10-18"));
    }
}
