//! containerd's configuration, with Spotter's runtime in it or without: an edit that keeps all else as it
//! is, comments too.

use anyhow::{Context, bail};
use toml_edit::{DocumentMut, Item, Table, TableLike, value};

/// The name that Kubernetes' `RuntimeClass` has as its handler.
pub const HANDLER: &str = "spotter";

/// What containerd finds the shim by: `containerd-shim-spotter-v1`.
pub const RUNTIME_TYPE: &str = "io.containerd.spotter.v1";

/// Whether the runtime is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeEntry {
    Present,
    Absent,
}

/// Edits a configuration; an empty one is that of a containerd that has none.
///
/// # Errors
/// Text that is no TOML; a version of the configuration that is not known, and what to do.
pub fn edit(text: &str, runtime: RuntimeEntry) -> anyhow::Result<String> {
    let mut document: DocumentMut =
        text.parse().context("containerd's configuration is no TOML")?;
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
            "containerd's configuration has the version {}; 2 (containerd 1.6, 1.7) and 3 (containerd 2) \
             are known: make a new one with `containerd config default`",
            version.map_or("1".to_owned(), |version| version.to_string())
        ),
    };
    let path = ["plugins", plugin, "containerd", "runtimes"];
    match runtime {
        RuntimeEntry::Present => {
            let runtimes = descend(document.as_table_mut(), &path)?;
            if runtimes.is_empty() {
                // A table of runtimes takes the place of containerd's own, the usual one with it.
                add(runtimes, "runc", "io.containerd.runc.v2")?;
            }
            add(runtimes, HANDLER, RUNTIME_TYPE)?;
        }
        RuntimeEntry::Absent => remove(document.as_table_mut(), &path),
    }
    Ok(document.to_string())
}

/// The table at a path, made where it is not there.
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
        table = item.as_table_like_mut().with_context(|| format!("`{key}` is no table"))?;
    }
    Ok(table)
}

fn add(runtimes: &mut dyn TableLike, handler: &str, kind: &str) -> anyhow::Result<()> {
    let runtime = runtimes.entry(handler).or_insert_with(|| Item::Table(Table::new()));
    let runtime =
        runtime.as_table_like_mut().with_context(|| format!("`{handler}` is no table"))?;
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
    table.remove(HANDLER);
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
        // containerd's own table of runtimes is no more: what it had is written out, and stays.
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
            ("version", "no TOML"),
            ("version = 2\nplugins = 7\n", "`plugins` is no table"),
        ] {
            let refused = edit(text, RuntimeEntry::Present).unwrap_err();
            assert!(format!("{refused:#}").contains(reason), "{refused:#}");
        }
    }
}
