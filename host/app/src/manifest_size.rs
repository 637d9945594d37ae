//! How large a manifest's lists may be. Some checks take time for each pair of entries, and the shim reads the manifests
//! of images that strangers wrote.

use anyhow::ensure;

use super::component_manifest::ComponentManifest;
use super::manifest::Manifest;

const MAX_COMPONENTS: usize = 200;
const MAX_TRIGGERS: usize = 1_000;
/// The most entries that a list of the components may have, in all components together.
const MAX_ENTRIES: usize = 1_000;

/// Checks the lengths of a manifest's lists.
///
/// # Errors
/// If one is too long. The error names it.
pub(crate) fn check(manifest: &Manifest) -> anyhow::Result<()> {
    let entries = |count: fn(&ComponentManifest) -> usize| -> usize {
        manifest.component.values().map(count).sum()
    };
    for (what, count, most) in [
        ("components", manifest.component.len(), MAX_COMPONENTS),
        ("triggers", manifest.trigger.http.len(), MAX_TRIGGERS),
        ("entries in `files`", entries(|one| one.files.len()), MAX_ENTRIES),
        ("entries in `exclude_files`", entries(|one| one.exclude_files.len()), MAX_ENTRIES),
        ("allowed hosts", entries(|one| one.allowed_outbound_hosts.len()), MAX_ENTRIES),
        ("dependencies", entries(|one| one.dependencies.len()), MAX_ENTRIES),
    ] {
        ensure!(count <= most, "the manifest has {count} {what}; the maximum is {most}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::manifest::Manifest;

    #[test]
    fn a_list_that_is_too_long_is_refused_with_its_name() {
        let manifest = |text: &str| {
            Manifest::parse(&format!(
                "spin_manifest_version = 2\n[application]\nname = \"a\"\n{text}"
            ))
        };
        let list = |key: &str, count: usize| {
            manifest(&format!(
                "[component.a]\nsource = \"a.wasm\"\n{key} = [{}]\n",
                "\"a\",".repeat(count)
            ))
        };
        for key in ["files", "exclude_files", "allowed_outbound_hosts"] {
            list(key, 1_000).unwrap();
            let refused = list(key, 1_001).unwrap_err().to_string();
            assert!(
                refused.contains("1001") && refused.contains("the maximum is 1000"),
                "{refused}"
            );
        }
        let components: String = (0..201)
            .map(|number| format!("[component.a{number}]\nsource = \"a.wasm\"\n"))
            .collect();
        let refused = manifest(&components).unwrap_err().to_string();
        assert!(refused.contains("201 components"), "{refused}");
        let triggers = "[[trigger.http]]\nroute = \"/a\"\ncomponent = \"a\"\n".repeat(1_001);
        let refused = manifest(&triggers).unwrap_err().to_string();
        assert!(refused.contains("1001 triggers"), "{refused}");
    }
}
