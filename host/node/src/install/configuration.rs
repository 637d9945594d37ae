//! containerd's configuration with the files that it imports: decides which of them gets the runtime.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, ensure};
use globset::Glob;
use toml_edit::{DocumentMut, Item};

use super::journal::FileChange;
use crate::containerd::{
    self, MADE_COMMENT, RUNTIME_HANDLER, RuntimeEntry, edit_imported, runtimes_path, table_at,
    version,
};

/// The name of Spotter's own file, in a folder from which containerd imports files.
const DROP_IN_FILE_NAME: &str = "spotter.toml";
/// Added to the first line of a file whose folder was made for it.
const WITH_FOLDER_SUFFIX: &str = ", with its folder";
/// From this version on, containerd merges the tables of imported files. In earlier versions, a plugin's table in an
/// imported file replaces the plugin's whole table.
const MIN_MERGING_VERSION: i64 = 3;

/// One file of the configuration.
struct ContainerdFile {
    path: PathBuf,
    /// Empty if there is no such file.
    text: String,
    document: DocumentMut,
}

/// The files of the configuration, in the order in which containerd loads them.
pub(super) struct Configuration {
    files: Vec<ContainerdFile>,
    /// The folders from which all `.toml` files are imported.
    drop_in_folders: Vec<PathBuf>,
}

impl Configuration {
    /// Reads the configuration at `main` and what it imports, all below `root`.
    ///
    /// # Errors
    /// If a file cannot be read, is not TOML, or is a symbolic link to a place outside of `root`.
    pub(super) fn read(root: &Path, main: &Path) -> anyhow::Result<Self> {
        let mut configuration = Self { files: Vec::new(), drop_in_folders: Vec::new() };
        let mut waiting = VecDeque::from([main.to_owned()]);
        let mut seen = BTreeSet::new();
        while let Some(name) = waiting.pop_front() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let file = ContainerdFile::read(root, &name)?;
            let imports = file.document.get("imports").and_then(Item::as_array);
            let patterns = imports.into_iter().flatten().filter_map(toml_edit::Value::as_str);
            for pattern in patterns {
                let pattern = name.parent().unwrap_or(Path::new("/")).join(pattern);
                waiting.extend(configuration.resolve(root, &pattern)?);
            }
            configuration.files.push(file);
        }
        Ok(configuration)
    }

    /// The files that an import names. Notes the folder if the import takes all `.toml` files in it.
    fn resolve(&mut self, root: &Path, pattern: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
            return Ok(Vec::new());
        };
        let name = name.to_string_lossy();
        if !name.contains('*') {
            return Ok(vec![pattern.to_owned()]);
        }
        let glob = Glob::new(&name).with_context(|| format!("in `imports`: {name:?}"))?;
        let glob = glob.compile_matcher();
        if glob.is_match(DROP_IN_FILE_NAME) && !folder.to_string_lossy().contains('*') {
            self.drop_in_folders.push(folder.to_owned());
        }
        let entries = fs::read_dir(below(root, folder)).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.file_name())
            .filter(|name| glob.is_match(name))
            .map(|name| folder.join(name))
            .collect();
        found.sort();
        Ok(found)
    }

    /// The changes that add the runtime to the configuration, or remove it.
    ///
    /// # Errors
    /// If the configuration has a version that is not supported, or something generates the file to change.
    pub(super) fn changes(
        &self,
        root: &Path,
        runtime: RuntimeEntry,
    ) -> anyhow::Result<Vec<FileChange>> {
        let changes = match runtime {
            RuntimeEntry::Present => self.add(root)?.into_iter().collect(),
            RuntimeEntry::Absent => self.remove()?,
        };
        for change in &changes {
            ensure!(
                !change.before.contains("DO NOT EDIT"),
                "{} says DO NOT EDIT: a program generates it, and would undo the change; change the template of that \
                 program, or name another file with --containerd-config",
                change.path.display()
            );
        }
        Ok(changes)
    }

    fn add(&self, root: &Path) -> anyhow::Result<Option<FileChange>> {
        let main = self.main_version()?;
        let has_runtime = |file: &&ContainerdFile| file.has_runtime(main);
        if let Some(file) = self.files.iter().find(has_runtime) {
            return file.edited(RuntimeEntry::Present, main);
        }
        if main.is_some_and(|version| version >= MIN_MERGING_VERSION)
            && let Some(folder) = self.drop_in_folders.first()
        {
            return self.drop_in(root, folder, main).map(Some);
        }
        // Where the tables of imported files replace others, the last one counts.
        let file = self.files.iter().rev().find(|file| file.has_plugin(main));
        let file = file.or(self.files.first()).context("containerd has no configuration")?;
        file.edited(RuntimeEntry::Present, main)
    }

    fn remove(&self) -> anyhow::Result<Vec<FileChange>> {
        let main = self.main_version()?;
        let files = self.files.iter().filter(|file| file.has_runtime(main));
        let changes = files.map(|file| file.edited(RuntimeEntry::Absent, main));
        changes.filter_map(Result::transpose).collect()
    }

    /// A file of Spotter's own in a folder that containerd imports.
    fn drop_in(&self, root: &Path, folder: &Path, main: Option<i64>) -> anyhow::Result<FileChange> {
        let folder = below(root, folder);
        let path = folder.join(DROP_IN_FILE_NAME);
        let text = self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
        let before = text.unwrap_or_default().to_owned();
        let mut after = edit_imported(&before, RuntimeEntry::Present, main)?;
        if !folder.exists() {
            after = after.replacen(MADE_COMMENT, &format!("{MADE_COMMENT}{WITH_FOLDER_SUFFIX}"), 1);
        }
        Ok(FileChange { path, before, after })
    }

    /// The version of the main file; `None` if it is missing or empty.
    fn main_version(&self) -> anyhow::Result<Option<i64>> {
        let Some(main) = self.files.first().filter(|file| !file.document.is_empty()) else {
            return Ok(None);
        };
        let version = version(&main.document);
        runtimes_path(version).with_context(|| format!("in {}", main.path.display()))?;
        Ok(version)
    }
}

impl ContainerdFile {
    /// Reads a file; a missing one is empty.
    fn read(root: &Path, name: &Path) -> anyhow::Result<Self> {
        let path = below(root, name);
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        let document = containerd::parse(&text).with_context(|| format!("in {shown}"))?;
        // If it is a symbolic link, its target is changed.
        let target = path.canonicalize().unwrap_or_else(|_| path.clone());
        ensure!(
            root == Path::new("/") || !path.exists() || target.starts_with(root.canonicalize()?),
            "{shown} is a link to {}, outside of {}: name the file itself with --containerd-config",
            target.display(),
            root.display()
        );
        Ok(Self { path: target, text, document })
    }

    fn runtimes_path(&self, main: Option<i64>) -> Option<[&'static str; 4]> {
        runtimes_path(version(&self.document).or(main)).ok()
    }

    fn has_runtime(&self, main: Option<i64>) -> bool {
        let path = self.runtimes_path(main);
        path.and_then(|path| table_at(&self.document, &path))
            .is_some_and(|runtimes| runtimes.contains_key(RUNTIME_HANDLER))
    }

    fn has_plugin(&self, main: Option<i64>) -> bool {
        let path = self.runtimes_path(main);
        path.is_some_and(|path| table_at(&self.document, &path[..2]).is_some())
    }

    /// The change that the edit makes; `None` if there is none.
    fn edited(
        &self,
        runtime: RuntimeEntry,
        main: Option<i64>,
    ) -> anyhow::Result<Option<FileChange>> {
        let after = edit_imported(&self.text, runtime, main)
            .with_context(|| format!("in {}", self.path.display()))?;
        let change = FileChange { path: self.path.clone(), before: self.text.clone(), after };
        Ok(Some(change).filter(|change| change.before != change.after))
    }
}

/// Removes the folder of a removed file, if the folder was made for the file and is empty.
pub(super) fn remove_made_folder(removed: &FileChange) {
    if removed.after.is_empty()
        && removed.before.starts_with(&format!("{MADE_COMMENT}{WITH_FOLDER_SUFFIX}"))
    {
        // Others may have put files into it.
        let _ = removed.path.parent().map(fs::remove_dir);
    }
}

/// A path of the node as this process sees it.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    let mut below = root.to_owned();
    below.extend(path.components().filter(|part| !matches!(part, Component::RootDir)));
    below
}
