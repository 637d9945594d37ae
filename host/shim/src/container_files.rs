//! The files of a container before it runs, as the node sees them: those of its image, and those of its volumes.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use oci_spec::runtime::{Mount, Spec};
use pathrs::Root;
use pathrs::flags::OpenFlags;
use spotter_up::FileInContainer;

/// The largest configuration file that is read, in bytes.
const MAX_CONFIGURATION_BYTES: u64 = 1 << 20;

/// A container's root file system on the node, and what is mounted over it.
pub(super) struct ContainerFiles<'a> {
    pub root: &'a Path,
    pub mounts: &'a [Mount],
    /// What relative paths are relative to.
    pub working_directory: PathBuf,
}

impl<'a> ContainerFiles<'a> {
    pub(super) fn new(spec: &Spec, root: &'a Path, mounts: &'a [Mount]) -> Self {
        let process = spec.process().as_ref();
        let working_directory = process.map_or_else(|| "/".into(), |process| process.cwd().clone());
        Self { root, mounts, working_directory }
    }

    /// Checks that no volume hides this file of the image. Otherwise the shim would compile one file, and the pod would
    /// read another.
    ///
    /// # Errors
    /// If a volume hides it.
    pub(super) fn ensure_not_hidden(&self, path: &Path) -> anyhow::Result<()> {
        let over = self.mounts.iter().find(|mount| path.starts_with(mount.destination()));
        ensure!(
            over.is_none(),
            "the volume at {} hides {} of the image, which is checked and compiled before the container runs; mount it \
             elsewhere",
            over.map_or(Path::new(""), |mount| mount.destination().as_path()).display(),
            path.display()
        );
        Ok(())
    }

    /// Reads a configuration file. No link leads out of the image or the volume, even if it changes meanwhile.
    ///
    /// # Errors
    /// If the image does not have it, or it is too large, or not a text file.
    pub(super) fn read(&self, path: &Path) -> anyhow::Result<FileInContainer> {
        let path = self.working_directory.join(path);
        let shown = path.display();
        let volumes = self.mounts.iter().filter(|mount| path.starts_with(mount.destination()));
        let volume = volumes.max_by_key(|mount| mount.destination().components().count());
        let file = match volume {
            None => open(self.root, &path)
                .with_context(|| format!("the image does not contain {shown}"))?,
            // A volume may get the file only later, or lead to it by a link that only the container can follow.
            Some(volume) => match open_in_volume(volume, &path) {
                Some(file) => file,
                None => return Ok(FileInContainer::Unseen),
            },
        };
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "{shown} is not a file");
        let length = metadata.len();
        ensure!(
            length <= MAX_CONFIGURATION_BYTES,
            "{shown} has {length} bytes; the maximum is {MAX_CONFIGURATION_BYTES}"
        );
        let mut text = String::new();
        let read = file.take(MAX_CONFIGURATION_BYTES).read_to_string(&mut text);
        read.with_context(|| format!("cannot read {shown}"))?;
        Ok(FileInContainer::Text(text))
    }
}

/// Opens a file in a folder without leaving the folder, and without waiting for the writer of a pipe.
fn open(root: &Path, path: &Path) -> anyhow::Result<std::fs::File> {
    let flags = OpenFlags::O_RDONLY | OpenFlags::O_NONBLOCK;
    Ok(Root::open(root)?.open_subpath(path, flags)?)
}

fn open_in_volume(volume: &Mount, path: &Path) -> Option<std::fs::File> {
    let source = volume.source().as_deref()?;
    let is_bind = volume.options().iter().flatten().any(|option| option.ends_with("bind"));
    let below = path.strip_prefix(volume.destination()).ok()?;
    if !is_bind {
        return None;
    }
    if below.as_os_str().is_empty() {
        // A volume that is one file.
        return open(source.parent()?, Path::new(source.file_name()?)).ok();
    }
    open(source, below).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use oci_spec::runtime::{Mount, MountBuilder};
    use spotter_up::FileInContainer;

    use super::ContainerFiles;

    fn bind(source: &Path, at: &str) -> Mount {
        let options = ["rbind".to_owned(), "ro".to_owned()];
        MountBuilder::default().destination(at).source(source).options(options).build().unwrap()
    }

    #[test]
    fn configuration_is_read_from_the_image_and_from_volumes_and_from_nowhere_else() {
        let node = tempfile::tempdir().unwrap();
        let at = |path: &str| node.path().join(path);
        for folder in ["rootfs/etc", "volume/..data"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (path, text) in [
            ("secret", "of the node"),
            ("rootfs/etc/host.toml", "of the image"),
            ("volume/..data/host.toml", "of the volume"),
        ] {
            fs::write(at(path), text).unwrap();
        }
        symlink("..data/host.toml", at("volume/host.toml")).unwrap();
        symlink("../secret", at("volume/out.toml")).unwrap();
        symlink(at("secret"), at("rootfs/etc/out.toml")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(at("rootfs/etc/pipe")).status();
        assert!(pipe.is_ok_and(|status| status.success()));
        let mounts = [
            bind(&at("volume"), "/config"),
            bind(&at("volume/..data/host.toml"), "/one.toml"),
            MountBuilder::default().destination("/tmp").typ("tmpfs").build().unwrap(),
        ];
        let root = at("rootfs");
        let files =
            ContainerFiles { root: &root, mounts: &mounts, working_directory: "/etc".into() };
        let read = |path: &str| match files.read(Path::new(path)) {
            Ok(FileInContainer::Text(text)) => text,
            Ok(FileInContainer::Unseen) => "unseen".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(read("/etc/host.toml"), "of the image");
        assert_eq!(read("host.toml"), "of the image");
        assert_eq!(read("/config/host.toml"), "of the volume");
        assert_eq!(read("/one.toml"), "of the volume");
        for path in ["/tmp/host.toml", "/config/out.toml", "/config/missing.toml"] {
            assert_eq!(read(path), "unseen", "{path}");
        }
        for path in ["/etc/out.toml", "/etc/missing.toml"] {
            assert!(read(path).contains("the image does not contain"), "{path}: {}", read(path));
        }
        assert!(read("/etc/pipe").contains("not a file"), "{}", read("/etc/pipe"));
        assert!(files.ensure_not_hidden(Path::new("/etc/host.toml")).is_ok());
        let hidden = files.ensure_not_hidden(Path::new("/config/app.wasm")).unwrap_err();
        assert!(hidden.to_string().contains("/config hides /config/app.wasm"), "{hidden}");
    }
}
