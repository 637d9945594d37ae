//! The files that a component may read. They are copied to a separate folder when the application is loaded. A folder
//! that is the only entry, has the destination `/` and contains no links is used in place. Either way, a component sees
//! only what the manifest names, and no symbolic link leads outside.

use std::path::{Component as PathPart, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;
use tempfile::TempDir;
use walkdir::WalkDir;

/// One entry of `files`: a glob whose matches keep their paths, or a folder or file with a destination.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
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

/// The folder of a component's files.
pub enum Staged {
    /// Copies, which are removed when this is dropped.
    Copied(TempDir),
    /// A folder of the application that holds the files and nothing else.
    Whole(PathBuf),
}

impl Staged {
    pub fn path(&self) -> &Path {
        match self {
            Self::Copied(folder) => folder.path(),
            Self::Whole(folder) => folder,
        }
    }
}

/// Copies the files that `entries` name, except those that `excluded` names; a folder that is named as a whole is used
/// as it is, however large it is. Returns `None` if there are no entries.
///
/// # Errors
/// If a pattern is invalid, a path leads out of the application, or a file cannot be read.
pub fn stage(
    root: &Path,
    entries: &[FileEntry],
    excluded: &[String],
) -> anyhow::Result<Option<Staged>> {
    if entries.is_empty() {
        return Ok(None);
    }
    if let Some(folder) = whole(root, entries, excluded)? {
        return Ok(Some(Staged::Whole(folder)));
    }
    let staged = tempfile::tempdir().context("cannot create a temporary folder")?;
    each(root, entries, excluded, &mut |from, below| {
        let to = staged.path().join(below);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    })?;
    Ok(Some(Staged::Copied(staged)))
}

/// How many bytes [`stage`] would copy.
///
/// # Errors
/// As [`stage`].
pub fn staged_bytes(
    root: &Path,
    entries: &[FileEntry],
    excluded: &[String],
) -> anyhow::Result<u64> {
    if whole(root, entries, excluded)?.is_some() {
        return Ok(0);
    }
    let mut bytes = 0;
    each(root, entries, excluded, &mut |from, _| {
        bytes += from.metadata()?.len();
        Ok(())
    })?;
    Ok(bytes)
}

/// The folder, if the only entry names a whole folder.
fn whole(
    root: &Path,
    entries: &[FileEntry],
    excluded: &[String],
) -> anyhow::Result<Option<PathBuf>> {
    let ([FileEntry::FileMount(placement)], []) = (entries, excluded) else { return Ok(None) };
    let folder = source(root, &placement.source)?;
    let is_root = inside(&placement.destination)?.as_os_str().is_empty();
    Ok((is_root && holds_files_only(&folder)).then_some(folder))
}

/// A callback for each file, which gets its path and the path under which the component sees it.
type Visit<'a> = &'a mut dyn FnMut(&Path, &Path) -> anyhow::Result<()>;

/// Visits the files that `entries` name, except those that `excluded` names.
fn each(
    root: &Path,
    entries: &[FileEntry],
    excluded: &[String],
    visit: Visit<'_>,
) -> anyhow::Result<()> {
    let excluded = globs(excluded.iter().map(String::as_str))?;
    for entry in entries {
        match entry {
            FileEntry::Pattern(pattern) => {
                inside(Path::new(pattern))?;
                let matching = globs([pattern.as_str()])?;
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

/// The file or folder that an entry names.
fn source(root: &Path, named: &Path) -> anyhow::Result<PathBuf> {
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
    Ok(path)
}

/// Whether a copy of this folder would contain everything in it.
fn holds_files_only(folder: &Path) -> bool {
    folder.is_dir()
        && WalkDir::new(folder).into_iter().all(|entry| {
            entry.is_ok_and(|entry| {
                let kind = entry.file_type();
                (kind.is_file() || kind.is_dir()) && entry.file_name() != ".git"
            })
        })
}

/// Visits every file below `from` whose path relative to the application's root `is_wanted`.
fn each_match(
    from: &Path,
    prefix: &Path,
    destination: &Path,
    is_wanted: &dyn Fn(&Path) -> bool,
    visit: Visit<'_>,
) -> anyhow::Result<()> {
    for entry in WalkDir::new(from).into_iter().filter_entry(|entry| entry.file_name() != ".git") {
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

fn globs<'p>(patterns: impl IntoIterator<Item = &'p str>) -> anyhow::Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(
            GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .with_context(|| format!("`files` has the invalid pattern {pattern:?}"))?,
        );
    }
    Ok(set.build()?)
}

/// Makes a path relative to the application's or component's root. Rejects a path that leads out of it.
fn inside(path: &Path) -> anyhow::Result<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::{FileEntry, FileMount, stage, staged_bytes};
    use std::path::PathBuf;

    fn application() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in ["site/index.html", "site/a/b.css", "secret.key", "data/one.txt"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_named_is_there_and_nothing_else() {
        let app = application();
        let entries = [
            FileEntry::Pattern("site/**/*".into()),
            FileEntry::FileMount(FileMount { source: "data".into(), destination: "/texts".into() }),
        ];
        let staged = stage(app.path(), &entries, &["**/*.css".into()]).unwrap().unwrap();
        assert_eq!(
            std::fs::read_to_string(staged.path().join("texts/one.txt")).unwrap(),
            "data/one.txt"
        );
        assert!(staged.path().join("site/index.html").exists());
        assert!(!staged.path().join("site/a/b.css").exists());
        assert!(!staged.path().join("secret.key").exists());
        let bytes = staged_bytes(app.path(), &entries, &["**/*.css".into()]).unwrap();
        assert_eq!(bytes, ("site/index.html".len() + "data/one.txt".len()) as u64);
    }

    #[test]
    fn a_whole_folder_is_not_copied_unless_a_link_leads_out_of_it() {
        let app = application();
        let whole = |destination: &str| {
            let placement = FileMount { source: "data".into(), destination: destination.into() };
            stage(app.path(), &[FileEntry::FileMount(placement)], &[]).unwrap().unwrap()
        };
        assert_eq!(whole("/").path(), app.path().join("data"));
        assert_ne!(whole("/data").path(), app.path().join("data"));
        std::os::unix::fs::symlink("/etc", app.path().join("data/link")).unwrap();
        let copied = whole("/");
        assert_ne!(copied.path(), app.path().join("data"));
        assert!(copied.path().join("one.txt").exists() && !copied.path().join("link").exists());
    }

    #[test]
    fn no_path_leads_out() {
        let app = application();
        let out = |source: &str, destination: &str| {
            FileEntry::FileMount(FileMount {
                source: PathBuf::from(source),
                destination: PathBuf::from(destination),
            })
        };
        for entry in [out("../x", "/y"), out("data", "../y"), FileEntry::Pattern("../*".into())] {
            let error = stage(app.path(), &[entry], &[]).err().unwrap().to_string();
            assert!(error.contains("leads out"), "{error}");
        }
        assert!(stage(app.path(), &[out("nothing", "/y")], &[]).is_err());
        std::os::unix::fs::symlink("/etc", app.path().join("link")).unwrap();
        std::os::unix::fs::symlink("data", app.path().join("inner")).unwrap();
        for (source, destination) in [("link", "/"), ("link", "/y"), ("link/passwd", "/y")] {
            let error = stage(app.path(), &[out(source, destination)], &[]).err().unwrap();
            assert!(error.to_string().contains("leads out"), "{error}");
        }
        assert!(stage(app.path(), &[out("inner", "/y")], &[]).is_ok());
    }
}
