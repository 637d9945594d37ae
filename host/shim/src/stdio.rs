//! The standard streams of a container, as containerd names them.

use std::fs::File;

use anyhow::{Context, bail};

/// Opens a stream by its name: the path of a pipe, the URL of a file, or nothing for no stream
/// (<https://github.com/containerd/containerd/blob/main/core/runtime/v2/README.md#logging>).
pub(super) fn open(name: &str) -> anyhow::Result<Option<File>> {
    if name.is_empty() {
        return Ok(None);
    }
    let opened = match name.split_once("://") {
        None => File::options().read(true).write(true).open(name),
        Some(("file", path)) => File::options().create(true).append(true).open(path),
        Some((scheme, _)) => {
            bail!("the log {name} has the scheme {scheme}, which is not supported")
        }
    };
    opened.map(Some).with_context(|| format!("cannot open the stream {name}"))
}
