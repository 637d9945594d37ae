//! How a component gets its files: as copies in a temporary folder, or as folders of the application itself. Either
//! way, it sees only what the manifest names.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::files::{FileEntry, REPOSITORY, each, inside, source};

/// How the files of all components are mounted.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    pub strategy: MountStrategy,
    /// Where temporary folders are created, if not in the system's folder for them.
    pub temporary_folder: Option<PathBuf>,
}

/// What a component sees of its files, and whether it can change them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountStrategy {
    /// Copies that it can read. A folder that is the only entry, has the destination `/` and contains no links is not
    /// copied, however large it is: a copy would be the same.
    #[default]
    ReadOnlyCopies,
    /// Copies that all its instances can change. They are removed when the application stops.
    WritableCopies,
    /// The application's own folders, read-only. Changes to their files are visible at once.
    InPlace,
}

/// What a component may do with the files of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// A folder that a component sees.
pub struct Mount {
    folder: Folder,
    /// The path that the component knows it by.
    pub guest_path: String,
    pub access: Access,
}

enum Folder {
    /// Copies, which are removed when this is dropped.
    Copies(TempDir),
    InPlace(PathBuf),
}

impl Mount {
    /// The folder of the host.
    pub fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Copies(folder) => folder.path(),
            Folder::InPlace(folder) => folder,
        }
    }

    fn at_root(folder: Folder, access: Access) -> Self {
        Self { folder, guest_path: "/".into(), access }
    }
}

/// Mounts the files that `entries` name, except those that `excluded` names. No entries, no mounts.
///
/// # Errors
/// If a pattern is invalid, a path leads out of the application, a file cannot be read or copied, or an entry cannot
/// be mounted in place.
pub fn mount(
    root: &Path,
    entries: &[FileEntry],
    excluded: &[String],
    options: &MountOptions,
) -> anyhow::Result<Vec<Mount>> {
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let access = match options.strategy {
        MountStrategy::InPlace => return in_place(root, entries, excluded),
        MountStrategy::WritableCopies => Access::ReadWrite,
        MountStrategy::ReadOnlyCopies => {
            if let Some(folder) = whole(root, entries, excluded)? {
                return Ok(vec![Mount::at_root(Folder::InPlace(folder), Access::ReadOnly)]);
            }
            Access::ReadOnly
        }
    };
    let copies = temporary_folder(options.temporary_folder.as_deref())?;
    each(root, entries, excluded, &mut |from, below| {
        let to = copies.path().join(below);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        if access == Access::ReadWrite {
            let mode = to.metadata()?.permissions().mode();
            std::fs::set_permissions(&to, Permissions::from_mode(mode | OWNER_MAY_WRITE))?;
        }
        Ok(())
    })?;
    Ok(vec![Mount::at_root(Folder::Copies(copies), access)])
}

/// How many bytes [`mount`] would copy.
///
/// # Errors
/// As [`mount`].
pub fn copied_bytes(
    root: &Path,
    entries: &[FileEntry],
    excluded: &[String],
    options: &MountOptions,
) -> anyhow::Result<u64> {
    match options.strategy {
        MountStrategy::InPlace => return Ok(0),
        MountStrategy::ReadOnlyCopies if whole(root, entries, excluded)?.is_some() => return Ok(0),
        MountStrategy::ReadOnlyCopies | MountStrategy::WritableCopies => {}
    }
    let mut bytes = 0;
    each(root, entries, excluded, &mut |from, _| {
        bytes += from.metadata()?.len();
        Ok(())
    })?;
    Ok(bytes)
}

/// The bit of a file's mode that lets its owner write to it.
const OWNER_MAY_WRITE: u32 = 0o200;

fn temporary_folder(parent: Option<&Path>) -> anyhow::Result<TempDir> {
    const FAILED: &str = "cannot create a temporary folder for a component's files";
    let Some(parent) = parent else { return tempfile::tempdir().context(FAILED) };
    let created = std::fs::create_dir_all(parent).and_then(|()| tempfile::tempdir_in(parent));
    created.with_context(|| format!("{FAILED} in {}", parent.display()))
}

/// Mounts folders of the application itself. What is left out of a folder can only be left out of a copy.
fn in_place(root: &Path, entries: &[FileEntry], excluded: &[String]) -> anyhow::Result<Vec<Mount>> {
    ensure!(
        excluded.is_empty(),
        "--direct-mounts: the component has `exclude_files`, so its files must be copied; remove one of them"
    );
    let mut mounts: Vec<Mount> = Vec::new();
    for entry in entries {
        let (named, destination) = match entry {
            FileEntry::FileMount(entry) => (entry.source.as_path(), entry.destination.as_path()),
            FileEntry::Pattern(path) if root.join(path).is_dir() => (path.as_ref(), path.as_ref()),
            FileEntry::Pattern(pattern) => bail!(
                "--direct-mounts: `files` has the pattern {pattern:?}, which is not a folder; name the folder that its \
                 files are in"
            ),
        };
        let folder = source_folder(root, named)?;
        let guest_path = Path::new("/").join(inside(destination)?);
        let guest_path = guest_path.to_string_lossy().into_owned();
        ensure!(
            mounts.iter().all(|other| other.guest_path != guest_path),
            "--direct-mounts: `files` names two folders for the destination {guest_path}; name one, or run without \
             --direct-mounts, which merges them"
        );
        mounts.push(Mount {
            folder: Folder::InPlace(folder),
            guest_path,
            access: Access::ReadOnly,
        });
    }
    Ok(mounts)
}

/// A folder of the application that a component may see as it is.
fn source_folder(root: &Path, named: &Path) -> anyhow::Result<PathBuf> {
    let folder = source(root, named)?;
    ensure!(
        folder.is_dir(),
        "--direct-mounts: `files` names {}, which is not a folder; name the folder that it is in",
        folder.display()
    );
    let paths = WalkDir::new(&folder).into_iter().filter_map(Result::ok);
    let mut repositories = paths.filter(|entry| entry.file_name() == REPOSITORY);
    if let Some(repository) = repositories.next() {
        bail!(
            "--direct-mounts: the component would see {}, which may hold secrets; name a folder without it, or run \
             without --direct-mounts, which leaves it out",
            repository.path().display()
        );
    }
    Ok(folder)
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

/// Whether a copy of this folder would contain everything in it.
fn holds_files_only(folder: &Path) -> bool {
    folder.is_dir()
        && WalkDir::new(folder).into_iter().all(|entry| {
            entry.is_ok_and(|entry| {
                let kind = entry.file_type();
                (kind.is_file() || kind.is_dir()) && entry.file_name() != REPOSITORY
            })
        })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::{Access, Mount, MountOptions, MountStrategy, copied_bytes, mount};
    use crate::files::{FileEntry, FileMount};

    /// Mounts by default.
    fn one(root: &Path, entries: &[FileEntry], excluded: &[String]) -> anyhow::Result<Mount> {
        let mut mounts = mount(root, entries, excluded, &MountOptions::default())?;
        assert_eq!(mounts.len(), 1);
        Ok(mounts.remove(0))
    }

    fn folder(source: &str, destination: &str) -> FileEntry {
        FileEntry::FileMount(FileMount {
            source: PathBuf::from(source),
            destination: PathBuf::from(destination),
        })
    }

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
        let entries = [FileEntry::Pattern("site/**/*".into()), folder("data", "/texts")];
        let copies = one(app.path(), &entries, &["**/*.css".into()]).unwrap();
        assert_eq!((copies.guest_path.as_str(), copies.access), ("/", Access::ReadOnly));
        assert_eq!(
            std::fs::read_to_string(copies.folder().join("texts/one.txt")).unwrap(),
            "data/one.txt"
        );
        assert!(copies.folder().join("site/index.html").exists());
        assert!(!copies.folder().join("site/a/b.css").exists());
        assert!(!copies.folder().join("secret.key").exists());
        let bytes =
            copied_bytes(app.path(), &entries, &["**/*.css".into()], &MountOptions::default())
                .unwrap();
        assert_eq!(bytes, ("site/index.html".len() + "data/one.txt".len()) as u64);
    }

    #[test]
    fn a_whole_folder_is_not_copied_unless_a_link_leads_out_of_it() {
        let app = application();
        let whole =
            |destination: &str| one(app.path(), &[folder("data", destination)], &[]).unwrap();
        assert_eq!(whole("/").folder(), app.path().join("data"));
        assert_ne!(whole("/data").folder(), app.path().join("data"));
        std::os::unix::fs::symlink("/etc", app.path().join("data/link")).unwrap();
        let copied = whole("/");
        assert_ne!(copied.folder(), app.path().join("data"));
        assert!(copied.folder().join("one.txt").exists() && !copied.folder().join("link").exists());
    }

    #[test]
    fn no_path_leads_out() {
        let app = application();
        for entry in
            [folder("../x", "/y"), folder("data", "../y"), FileEntry::Pattern("../*".into())]
        {
            let error = one(app.path(), &[entry], &[]).err().unwrap().to_string();
            assert!(error.contains("leads out"), "{error}");
        }
        assert!(one(app.path(), &[folder("nothing", "/y")], &[]).is_err());
        std::os::unix::fs::symlink("/etc", app.path().join("link")).unwrap();
        std::os::unix::fs::symlink("data", app.path().join("inner")).unwrap();
        for (source, destination) in [("link", "/"), ("link", "/y"), ("link/passwd", "/y")] {
            let error = one(app.path(), &[folder(source, destination)], &[]).err().unwrap();
            assert!(error.to_string().contains("leads out"), "{error}");
        }
        assert!(one(app.path(), &[folder("inner", "/y")], &[]).is_ok());
    }

    #[test]
    fn a_folder_in_place_is_seen_under_its_destination() {
        let app = application();
        let options = MountOptions { strategy: MountStrategy::InPlace, ..MountOptions::default() };
        let mounts = |entries: &[FileEntry], excluded: &[String]| {
            mount(app.path(), entries, excluded, &options)
        };
        std::fs::create_dir_all(app.path().join("checkout/a/.git")).unwrap();
        let entries = [folder("site", "/"), FileEntry::Pattern("data".into())];
        let found = mounts(&entries, &[]).unwrap();
        assert!(found.iter().all(|mount| mount.access == Access::ReadOnly));
        let found: Vec<_> =
            found.iter().map(|mount| (mount.folder(), mount.guest_path.as_str())).collect();
        let expected = [(app.path().join("site"), "/"), (app.path().join("data"), "/data")];
        assert_eq!(found, expected.each_ref().map(|(folder, path)| (folder.as_path(), *path)));
        for (entries, excluded, reason) in [
            (vec![FileEntry::Pattern("site/*".into())], vec![], "the pattern \"site/*\""),
            (vec![folder("checkout", "/")], vec![], "checkout/a/.git, which may hold secrets"),
            (vec![folder("secret.key", "/")], vec![], "which is not a folder"),
            (vec![folder("site", "/")], vec!["**/*.css".to_owned()], "`exclude_files`"),
            (vec![folder("site", "/a"), folder("data", "a")], vec![], "the destination /a"),
            (vec![folder("../x", "/")], vec![], "leads outside"),
        ] {
            let error = mounts(&entries, &excluded).err().unwrap().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn copies_that_can_be_changed_are_made_in_the_named_folder() {
        let app = application();
        let temporary = app.path().join("new/temporary");
        let options = MountOptions {
            strategy: MountStrategy::WritableCopies,
            temporary_folder: Some(temporary.clone()),
        };
        let entries = [folder("data", "/")];
        let file = app.path().join("data/one.txt");
        std::fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
        let bytes = copied_bytes(app.path(), &entries, &[], &options).unwrap();
        assert_eq!(bytes, "data/one.txt".len() as u64);
        let mounts = mount(app.path(), &entries, &[], &options).unwrap();
        let mode = mounts[0].folder().join("one.txt").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert!(mounts[0].folder().starts_with(&temporary));
        assert_eq!(mounts[0].access, Access::ReadWrite);
        std::fs::write(mounts[0].folder().join("one.txt"), "changed").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "data/one.txt");
        drop(mounts);
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    }
}
