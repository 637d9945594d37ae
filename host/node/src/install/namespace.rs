//! Enters a node's mount namespace from a container on it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Makes the files of the node the files of this process, as `nsenter --target PID --mount` does. The process must have
/// only one thread.
///
/// # Errors
/// If this process does not share the node's process ids, or lacks privileges.
pub fn enter(pid: u32) -> anyhow::Result<()> {
    let theirs = PathBuf::from(format!("/proc/{pid}/ns/mnt"));
    let context = || {
        format!(
            "cannot enter the mount namespace of process {pid}: the container must be privileged, and share the \
             node's processes (`hostPID: true`)"
        )
    };
    let link = fs::read_link(&theirs).with_context(context)?;
    let own = fs::read_link("/proc/self/ns/mnt").context("cannot read /proc/self/ns/mnt")?;
    ensure!(
        link != own,
        "process {pid} is in the same mount namespace as this one: in a container, share the node's processes \
         (`hostPID: true`); on the node itself, leave out --enter"
    );
    let namespace = File::open(&theirs).with_context(context)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .with_context(context)
}
