//! Adds Spotter's runtime to containerd's configuration, or removes it, and leaves everything else as it is,
//! comments included.

use anyhow::{Context, bail};
use toml_edit::{DocumentMut, Item, Table, TableLike, value};

/// The handler that the Kubernetes `RuntimeClass` names.
pub const RUNTIME_HANDLER: &str = "spotter";

/// The type from which containerd derives the shim's name, `containerd-shim-spotter-v1`.
pub const RUNTIME_TYPE: &str = "io.containerd.spotter.v1";

/// Whether the configuration should contain the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeEntry {
    Present,
    Absent,
}

/// Edits a configuration. An empty text stands for a missing file.
///
/// # Errors
/// If the text is not TOML, or the version of the configuration is not supported.
pub fn edit(text: &str, runtime: RuntimeEntry) -> anyhow::Result<String> {
    let mut document: DocumentMut =
        text.parse().context("containerd's configuration is not TOML")?;
    if document.is_empty() {
        if runtime == RuntimeEntry::Absent {
            return Ok(text.to_owned());
        }
        // containerd 2 reads version 2 as well.
        document["version"] = value(2);
    }
    let plugin = match document.get("version").and_then(Item::as_integer) {
        Some(2) => "io.containerd.grpc.v1.cri",
        Some(3) => "io.containerd.cri.v1.runtime",
        version => bail!(
            "containerd's configuration has version {}, but only 2 (containerd 1.6, 1.7) and 3 (containerd 2) are \
             supported: write a new one with `containerd config default`",
            version.map_or("1".to_owned(), |version| version.to_string())
        ),
    };
    let path = ["plugins", plugin, "containerd", "runtimes"];
    match runtime {
        RuntimeEntry::Present => {
            let runtimes = descend(document.as_table_mut(), &path)?;
            if runtimes.is_empty() {
                // A table of runtimes replaces containerd's default one, so runc must be in it.
                add(runtimes, "runc", "io.containerd.runc.v2")?;
            }
            add(runtimes, RUNTIME_HANDLER, RUNTIME_TYPE)?;
        }
        RuntimeEntry::Absent => remove(document.as_table_mut(), &path),
    }
    Ok(document.to_string())
}

/// The table at a path, created if it does not exist.
fn descend<'a>(
    mut table: &'a mut dyn TableLike,
    path: &[&str],
) -> anyhow::Result<&'a mut dyn TableLike> {
    for key in path {
        let item = table.entry(key).or_insert_with(|| {
            let mut made = Table::new();
            made.set_implicit(true);
            Item::Table(made)
        });
        table = item.as_table_like_mut().with_context(|| format!("`{key}` is not a table"))?;
    }
    Ok(table)
}

fn add(runtimes: &mut dyn TableLike, handler: &str, kind: &str) -> anyhow::Result<()> {
    let runtime = runtimes.entry(handler).or_insert_with(|| Item::Table(Table::new()));
    let runtime =
        runtime.as_table_like_mut().with_context(|| format!("`{handler}` is not a table"))?;
    if runtime.get("runtime_type").and_then(Item::as_str) != Some(kind) {
        runtime.insert("runtime_type", value(kind));
    }
    Ok(())
}

fn remove(mut table: &mut dyn TableLike, path: &[&str]) {
    for key in path {
        match table.get_mut(key).and_then(Item::as_table_like_mut) {
            Some(inner) => table = inner,
            None => return,
        }
    }
    table.remove(RUNTIME_HANDLER);
}

#[cfg(test)]
mod tests {
    use super::{RuntimeEntry, edit};

    const VERSION_2: &str = r#"# kept
version = 2

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2" # as ever
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = true
"#;

    #[test]
    fn the_runtime_is_added_once_and_taken_out_again() {
        let added = edit(VERSION_2, RuntimeEntry::Present).unwrap();
        assert!(added.starts_with(VERSION_2), "{added}");
        assert!(added.contains(
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.spotter]\n\
             runtime_type = \"io.containerd.spotter.v1\"\n"
        ));
        assert_eq!(edit(&added, RuntimeEntry::Present).unwrap(), added);
        assert_eq!(edit(&added, RuntimeEntry::Absent).unwrap(), VERSION_2);
        assert_eq!(edit(VERSION_2, RuntimeEntry::Absent).unwrap(), VERSION_2);
    }

    #[test]
    fn a_configuration_of_containerd_2_has_it_in_another_place() {
        let added = edit("version = 3\n", RuntimeEntry::Present).unwrap();
        assert!(
            added
                .contains("[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.spotter]")
        );
        // The new table replaces containerd's default one, so runc is added, and stays.
        assert!(
            added.contains("runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n"),
            "{added}"
        );
        let removed = edit(&added, RuntimeEntry::Absent).unwrap();
        assert!(removed.contains("runtimes.runc]") && !removed.contains("spotter"), "{removed}");
    }

    #[test]
    fn where_there_is_no_configuration_there_is_one_after() {
        let added = edit("", RuntimeEntry::Present).unwrap();
        assert!(
            added.starts_with("version = 2\n") && added.contains("runtimes.spotter]"),
            "{added}"
        );
        assert_eq!(edit("", RuntimeEntry::Absent).unwrap(), "");
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for (text, reason) in [
            ("version = 1\n", "version 1"),
            ("root = \"/x\"\n", "version 1"),
            ("version = 4\n", "version 4"),
            ("version", "not TOML"),
            ("version = 2\nplugins = 7\n", "`plugins` is not a table"),
        ] {
            let refused = edit(text, RuntimeEntry::Present).unwrap_err();
            assert!(format!("{refused:#}").contains(reason), "{refused:#}");
        }
    }
}
