//! Runs the shim from a read-only view of its own file. Its processes enter containers, where `/proc/PID/exe` leads to
//! that file: without the view, root in a container could overwrite the program that the node runs (CVE-2019-5736).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow};
use libcontainer::syscall::linux::{MOUNT_ATTR_RDONLY, MountAttr};
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// Set in the environment of a process that runs from the view. Containers do not get it.
const SEALED_VARIABLE: &str = "SPOTTER_SHIM_SEALED";

/// Executes this program again from the read-only view. Returns if it already runs from there.
///
/// # Errors
/// If the program cannot be executed again.
pub(super) fn execute_read_only() -> anyhow::Result<()> {
    if std::env::var_os(SEALED_VARIABLE).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let name = program.file_name().unwrap_or(OsStr::new("containerd-shim-spotter-v1"));
    let folder = program.parent().unwrap_or(Path::new("/"));
    // A read-only mount costs no memory, but needs Linux 5.12.
    let (view, path) = match read_only(folder) {
        Ok(view) => {
            let path = descriptor(&view).join(name);
            (view, path)
        }
        Err(error) => {
            let copy = sealed_copy(&program).with_context(|| {
                format!("{error:#}, and the shim cannot be copied into memory either")
            })?;
            let path = descriptor(&copy);
            (copy, path)
        }
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(path);
    command.arg0(arguments.next().unwrap_or_default()).args(arguments).env(SEALED_VARIABLE, "1");
    let failed = command.exec();
    drop(view);
    Err(failed).context("cannot execute this program again")
}

/// A read-only mount of a folder in no namespace. A program that is executed from it keeps it.
fn read_only(folder: &Path) -> anyhow::Result<OwnedFd> {
    const AT_FDCWD: i32 = -100;
    const AT_EMPTY_PATH: u32 = 0x1000;
    const OPEN_TREE_CLONE: u32 = 1;
    const OPEN_TREE_CLOEXEC: u32 = 0o2_000_000;
    let system = SyscallType::Linux.create_syscall();
    let path = folder.to_str().context("the path of this program is not UTF-8")?;
    let view = system
        .open_tree(AT_FDCWD, Some(path), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
        .map_err(|error| anyhow!("cannot clone the mount of {path}: {error}"))?;
    let attributes =
        MountAttr { attr_set: MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    system
        .mount_setattr(
            view.as_fd(),
            Path::new(""),
            AT_EMPTY_PATH,
            &attributes,
            size_of::<MountAttr>(),
        )
        .map_err(|error| anyhow!("cannot make a mount of {path} read-only: {error}"))?;
    Ok(view)
}

/// A copy of a program in memory that nobody can change.
fn sealed_copy(program: &Path) -> anyhow::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3, all such files can be executed and the flag is unknown.
    let memory = memfd_create("shim", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("shim", flags))
        .context("cannot create a file in memory")?;
    let mut copy = File::from(memory);
    std::io::copy(&mut File::open(program)?, &mut copy)?;
    fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(copy.into())
}

/// The path of a descriptor of this process.
fn descriptor(descriptor: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(descriptor.as_raw_fd().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::{descriptor, sealed_copy};

    #[test]
    fn a_copy_runs_and_cannot_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::copy("/bin/true", &program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let copy = sealed_copy(&program).unwrap();
        let path = descriptor(&copy);
        assert!(Command::new(&path).status().unwrap().success());
        assert!(std::fs::write(&path, "changed").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&program).unwrap());
    }
}
