//! Isolates dependencies that do not inherit their component's configuration. Their imports get other names in the
//! composed component, and under these names the host provides nothing: no variables, no files, no connections.

use anyhow::ensure;

use super::rename_interfaces;
use spotter_app::check::{self, ISOLATED_PACKAGE};

/// The interfaces that get another name. They are empty, or deny every call.
const ISOLATED_IMPORTS: [&str; 4] = [
    "wasi:cli/environment",
    "wasi:filesystem/preopens",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp-create-socket",
];

/// What a dependency may import unchanged: nothing here gives access to what a manifest grants.
const ALLOWED_IMPORTS: [&str; 23] = [
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/types",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/udp",
];

/// Renames those imports of a dependency that it does not inherit.
///
/// # Errors
/// If it imports something that only a dependency which inherits its component's configuration can use.
pub(super) fn isolate(dependency: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let is_of_wasi_0_2 = |import: &str| import.contains("@0.2.");
    let is_known = |import: &&String| {
        let interface = import.split('@').next().unwrap_or_default();
        let is_candidate = import.contains("-rc");
        is_of_wasi_0_2(import)
            && (ALLOWED_IMPORTS.contains(&interface)
                || !is_candidate && ISOLATED_IMPORTS.contains(&interface))
    };
    let imports = check::interfaces(&dependency)?.imports;
    let refused: Vec<_> = imports.iter().filter(|import| !is_known(import)).cloned().collect();
    ensure!(
        refused.is_empty(),
        "it imports {}, which a dependency can use only with `dependencies_inherit_configuration = true`",
        refused.join(", ")
    );
    let rename = |import: &str| {
        let (interface, version) = import.split_once('@')?;
        let (_, name) = interface.split_once('/')?;
        ISOLATED_IMPORTS
            .contains(&interface)
            .then(|| format!("{ISOLATED_PACKAGE}/{name}@{version}"))
    };
    Ok(rename_interfaces::imports(&dependency, rename)?.unwrap_or(dependency))
}

#[cfg(test)]
mod tests {
    use super::isolate;
    use super::rename_interfaces::to_release;

    fn isolated(import: &str) -> anyhow::Result<String> {
        let dependency = wat::parse_str(format!(r#"(component (import "{import}" (instance)))"#))?;
        let renamed = to_release(&dependency)?.unwrap_or(dependency);
        Ok(String::from_utf8_lossy(&isolate(renamed)?).into_owned())
    }

    #[test]
    fn a_dependency_of_a_release_candidate_gets_no_more_than_any_other() {
        for version in ["0.2.0", "0.2.0-rc-2023-11-10"] {
            let environment = isolated(&format!("wasi:cli/environment@{version}")).unwrap();
            assert!(environment.contains("spotter:isolated/environment@0.2.0"), "{environment}");
            assert!(isolated(&format!("wasi:http/types@{version}")).is_ok());
            assert!(isolated(&format!("wasi:http/outgoing-handler@{version}")).is_err());
        }
    }
}
