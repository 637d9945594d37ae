//! Adds Spotter's runtime to containerd's configuration, or removes it, and leaves everything else as it is,
//! comments included.

use anyhow::{Context, bail};
use toml_edit::{DocumentMut, Item, RawString, Table, TableLike, value};

/// The handler that the Kubernetes `RuntimeClass` names.
pub const RUNTIME_HANDLER: &str = "spotter";

/// The type from which containerd derives the shim's name, `containerd-shim-spotter-v1`.
pub const RUNTIME_TYPE: &str = "io.containerd.spotter.v1";

/// containerd's own default runtime.
const DEFAULT_HANDLER: &str = "runc";
const DEFAULT_TYPE: &str = "io.containerd.runc.v2";

/// Whether the configuration should contain the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeEntry {
    Present,
    Absent,
}

/// The first line of a file that [`edit`] made.
pub(crate) const MADE_COMMENT: &str = "# Made by Spotter";
/// Above each table that [`edit`] added to someone else's file.
const ADDED_COMMENT: &str = "# Added by Spotter";
/// The version of a new configuration. containerd 1.6, 1.7 and 2 read it.
const NEW_CONFIG_VERSION: i64 = 2;

/// Edits a configuration. An empty text stands for a missing file, before and after.
///
/// # Errors
/// If the text is not TOML, or the version of the configuration is not supported.
pub fn edit(text: &str, runtime: RuntimeEntry) -> anyhow::Result<String> {
    edit_imported(text, runtime, None)
}

/// Edits a file that a configuration of this version imports. Such a file may lack a version of its own.
pub(crate) fn edit_imported(
    text: &str,
    runtime: RuntimeEntry,
    importer: Option<i64>,
) -> anyhow::Result<String> {
    let mut document = parse(text)?;
    if document.is_empty() {
        if runtime == RuntimeEntry::Absent {
            return Ok(text.to_owned());
        }
        document["version"] = value(importer.unwrap_or(NEW_CONFIG_VERSION));
        if let Some(mut key) = document.key_mut("version") {
            key.leaf_decor_mut()
                .set_prefix(format!("{MADE_COMMENT}: the runtime of RuntimeClasses.\n"));
        }
    }
    let path = runtimes_path(version(&document).or(importer))?;
    match runtime {
        RuntimeEntry::Present => {
            let runtimes = descend(document.as_table_mut(), &path)?;
            if runtimes.is_empty() {
                let why = format!(
                    "{ADDED_COMMENT}: a table of runtimes replaces containerd's default table, so runc must be in it."
                );
                add(runtimes, DEFAULT_HANDLER, DEFAULT_TYPE, &why)?;
            }
            add(runtimes, RUNTIME_HANDLER, RUNTIME_TYPE, &format!("{ADDED_COMMENT}."))?;
        }
        RuntimeEntry::Absent => {
            remove(document.as_table_mut(), &path);
            if text.starts_with(MADE_COMMENT) && holds_only_its_version(&document) {
                return Ok(String::new());
            }
        }
    }
    Ok(document.to_string())
}

/// Parses a configuration.
///
/// # Errors
/// If the text is not TOML.
pub(crate) fn parse(text: &str) -> anyhow::Result<DocumentMut> {
    text.parse().context("containerd's configuration is not TOML")
}

/// The version that a configuration states.
pub(crate) fn version(document: &DocumentMut) -> Option<i64> {
    document.get("version").and_then(Item::as_integer)
}

/// The path of the table of runtimes in a configuration of this version.
///
/// # Errors
/// If the version is not supported.
pub(crate) fn runtimes_path(version: Option<i64>) -> anyhow::Result<[&'static str; 4]> {
    let plugin = match version {
        Some(2) => "io.containerd.grpc.v1.cri",
        // Version 4 (containerd 2.3) moves other settings only.
        Some(3 | 4) => "io.containerd.cri.v1.runtime",
        version => bail!(
            "containerd's configuration has version {}, but only 2 (containerd 1.6, 1.7), 3 and 4 (containerd 2) are \
             supported: write a new one with `containerd config default`",
            version.map_or("1".to_owned(), |version| version.to_string())
        ),
    };
    Ok(["plugins", plugin, "containerd", "runtimes"])
}

/// The table at a path.
pub(crate) fn table_at<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a dyn TableLike> {
    let root: &dyn TableLike = document.as_table();
    path.iter().try_fold(root, |table, key| table.get(key)?.as_table_like())
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

/// Adds a runtime, below a comment, or corrects its type.
fn add(
    runtimes: &mut dyn TableLike,
    handler: &str,
    kind: &str,
    comment: &str,
) -> anyhow::Result<()> {
    let runtime = runtimes.entry(handler).or_insert_with(|| {
        let mut made = Table::new();
        made.decor_mut().set_prefix(format!("\n{comment}\n"));
        Item::Table(made)
    });
    let runtime =
        runtime.as_table_like_mut().with_context(|| format!("`{handler}` is not a table"))?;
    if runtime.get("runtime_type").and_then(Item::as_str) != Some(kind) {
        runtime.insert("runtime_type", value(kind));
    }
    Ok(())
}

/// Removes the runtime, and the default one that was added with it, unless somebody has changed that.
fn remove(mut table: &mut dyn TableLike, path: &[&str]) {
    for key in path {
        match table.get_mut(key).and_then(Item::as_table_like_mut) {
            Some(inner) => table = inner,
            None => return,
        }
    }
    table.remove(RUNTIME_HANDLER);
    let default = table.get(DEFAULT_HANDLER).and_then(Item::as_table);
    let is_as_added = default.is_some_and(|default| {
        let comment = default.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
        default.len() == 1 && comment.trim_start().starts_with(ADDED_COMMENT)
    });
    if is_as_added && table.len() == 1 {
        table.remove(DEFAULT_HANDLER);
    }
}

fn holds_only_its_version(document: &DocumentMut) -> bool {
    document.iter().all(|(key, item)| key == "version" || is_empty(item))
}

/// Whether an item is a table that contains no values, at any depth.
fn is_empty(item: &Item) -> bool {
    item.as_table_like().is_some_and(|table| table.iter().all(|(_, item)| is_empty(item)))
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
        // The new table replaces containerd's default one, so runc is added.
        assert!(
            added.contains("runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n"),
            "{added}"
        );
        assert_eq!(edit(&added, RuntimeEntry::Absent).unwrap(), "version = 3\n");
        // What was added stays if someone has changed it, or needs it.
        for (from, to) in [
            ("runc.v2\"\n", "runc.v2\"\nsnapshotter = \"native\"\n"),
            (
                "\n# Added by Spotter.",
                "\n[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.kata]\nruntime_type = \"k\"\n# Added by Spotter.",
            ),
        ] {
            let changed = added.replacen(from, to, 1);
            assert_ne!(changed, added);
            let removed = edit(&changed, RuntimeEntry::Absent).unwrap();
            assert!(
                removed.contains("runtimes.runc]") && !removed.contains("spotter.v1"),
                "{removed}"
            );
        }
    }

    #[test]
    fn where_there_is_no_configuration_there_is_one_after() {
        let added = edit("", RuntimeEntry::Present).unwrap();
        assert!(added.starts_with("# Made by Spotter"), "{added}");
        assert!(
            added.contains("\nversion = 2\n") && added.contains("runtimes.spotter]"),
            "{added}"
        );
        assert_eq!(edit("", RuntimeEntry::Absent).unwrap(), "");
        assert_eq!(edit(&added, RuntimeEntry::Absent).unwrap(), "");
        let used = format!("{added}[metrics]\naddress = \"127.0.0.1:1338\"\n");
        assert!(edit(&used, RuntimeEntry::Absent).unwrap().contains("[metrics]"));
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for (text, reason) in [
            ("version = 1\n", "version 1"),
            ("root = \"/x\"\n", "version 1"),
            ("version = 5\n", "version 5"),
            ("version", "not TOML"),
            ("version = 2\nplugins = 7\n", "`plugins` is not a table"),
        ] {
            let refused = edit(text, RuntimeEntry::Present).unwrap_err();
            assert!(format!("{refused:#}").contains(reason), "{refused:#}");
        }
    }
}
