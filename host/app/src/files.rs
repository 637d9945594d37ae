//! The files that a component may read: the entries of `files`, and what each of them names. No path and no symbolic
//! link leads out of the application.

use std::path::{Component as PathPart, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use walkdir::WalkDir;

/// One entry of `files`: a glob whose matches keep their paths, or a folder or file with a destination.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "each entry of `files` must be a pattern, or a table { source = \"…\", destination = \"…\" }"
)]
pub enum FileEntry {
    Pattern(String),
    FileMount(FileMount),
}

/// `{ source = "…", destination = "…" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMount {
    pub source: PathBuf,
    pub destination: PathBuf,
}

/// The name of git's own folder, which no component sees.
pub(crate) const REPOSITORY: &str = ".git";

/// A callback for each file, which gets its path and the path under which the component sees it.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&Path, &Path) -> anyhow::Result<()>;

/// Visits the files that `entries` name, except those that `excluded` names.
///
/// # Errors
/// If a pattern is invalid, a path leads out of the application, or a file cannot be read.
pub(crate) fn each(
    root: &Path,
    entries: &[FileEntry],
    excluded: &[String],
    visit: Visit<'_>,
) -> anyhow::Result<()> {
    let excluded = globs("exclude_files", excluded.iter().map(String::as_str))?;
    for entry in entries {
        match entry {
            FileEntry::Pattern(pattern) => {
                inside(Path::new(pattern))?;
                let matching = globs("files", [pattern.as_str()])?;
                let is_wanted = |path: &Path| {
                    (matching.is_match(path) || path.starts_with(pattern))
                        && !excluded.is_match(path)
                };
                each_match(root, Path::new(""), Path::new(""), &is_wanted, visit)?;
            }
            FileEntry::FileMount(FileMount { source, destination }) => {
                let from = self::source(root, source)?;
                let is_wanted = |path: &Path| !excluded.is_match(path);
                each_match(&from, source, &inside(destination)?, &is_wanted, visit)?;
            }
        }
    }
    Ok(())
}

/// The file or folder that an entry names, without symbolic links.
///
/// # Errors
/// If it does not exist, or leads out of the application.
pub(crate) fn source(root: &Path, named: &Path) -> anyhow::Result<PathBuf> {
    inside(named)?;
    let path = root.join(named);
    ensure!(path.exists(), "`files` names {}, which does not exist", path.display());
    let resolved =
        path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        root.join(".").canonicalize().is_ok_and(|root| resolved.starts_with(root)),
        "`files` names {}, a link to {}, which leads outside the application; copy the files",
        path.display(),
        resolved.display()
    );
    Ok(resolved)
}

/// Visits every file below `from` whose path relative to the application's root `is_wanted`.
fn each_match(
    from: &Path,
    prefix: &Path,
    destination: &Path,
    is_wanted: &dyn Fn(&Path) -> bool,
    visit: Visit<'_>,
) -> anyhow::Result<()> {
    for entry in
        WalkDir::new(from).into_iter().filter_entry(|entry| entry.file_name() != REPOSITORY)
    {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let below = entry.path().strip_prefix(from).unwrap_or(Path::new(""));
        if !entry.file_type().is_file() || !is_wanted(&prefix.join(below)) {
            continue;
        }
        // An entry may name one file.
        let is_one = below.as_os_str().is_empty();
        let to = if is_one { destination.to_owned() } else { destination.join(below) };
        visit(entry.path(), &to)?;
    }
    Ok(())
}

/// The patterns of a key.
fn globs<'p>(key: &str, patterns: impl IntoIterator<Item = &'p str>) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(
            GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .with_context(|| format!("`{key}` has the invalid pattern {pattern:?}"))?,
        );
    }
    Ok(set.build()?)
}

/// Makes a path relative to the application's or component's root.
///
/// # Errors
/// If it leads out of it.
pub(crate) fn inside(path: &Path) -> anyhow::Result<PathBuf> {
    let mut below = PathBuf::new();
    for part in path.components() {
        match part {
            PathPart::Normal(name) => below.push(name),
            PathPart::CurDir | PathPart::RootDir => {}
            PathPart::ParentDir | PathPart::Prefix(_) => {
                bail!("`files` names {}, which leads outside the application", path.display())
            }
        }
    }
    Ok(below)
}
