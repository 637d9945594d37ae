//! Compiled code that a container waits for. The container's process starts at once, so that the startup probe covers
//! the compilation, which takes longer than the kubelet waits for a container to start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use spotter_up::pod;

use super::compile::Compilation;
use super::container_log::ContainerLog;

/// The folder on the node that the container sees, and what is compiled into it, by file name.
pub(super) struct AwaitedCode {
    folder: PathBuf,
    compilations: Vec<(String, Compilation)>,
}

/// Compilations that are running. They end with the container.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<Progress>>);

#[derive(Default)]
struct Progress {
    /// The process that compiles.
    process: Option<u32>,
    is_cancelled: bool,
}

impl AwaitedCode {
    /// For the container with this name on the node.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub(super) fn of(name: &str) -> anyhow::Result<Self> {
        let folder = folder(name)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // The container's user, who is seldom root, reads it.
        fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
        Ok(Self { folder, compilations: Vec::new() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// With a further component, whose code will be this file.
    pub(super) fn with(mut self, file: String, compilation: Compilation) -> Self {
        self.compilations.push((file, compilation));
        self
    }

    /// Compiles in a thread of its own.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub(super) fn start(self, mut log: ContainerLog) -> anyhow::Result<Running> {
        let running = Running::default();
        let progress = running.clone();
        let compile = move || {
            for (file, compilation) in self.compilations {
                let path = self.folder.join(file);
                let code = compilation.run(&mut log, |process| progress.entered(process));
                if progress.left() {
                    return;
                }
                // A link: all pods map the same file.
                let linked = code.and_then(|code| {
                    fs::hard_link(&code, &path).with_context(|| {
                        format!("cannot link {} as {}", code.display(), path.display())
                    })
                });
                if let Err(error) = linked {
                    let failure = pod::failure_of(&path);
                    if let Err(error) = spotter_cache::write_with_mode(
                        &failure,
                        format!("{error:#}").as_bytes(),
                        0o644,
                    ) {
                        log::error!("a container waits for code in vain: {error:#}");
                    }
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn(compile).context("cannot start a thread")?;
        Ok(running)
    }
}

impl Running {
    /// Stops compiling.
    pub(super) fn cancel(&self) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        progress.is_cancelled = true;
        if let Some(process) = progress.process.take() {
            kill(process);
        }
    }

    fn entered(&self, process: u32) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.is_cancelled {
            kill(process);
        } else {
            progress.process = Some(process);
        }
    }

    /// Notes that the process has ended, and returns whether it was cancelled.
    fn left(&self) -> bool {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        progress.process = None;
        progress.is_cancelled
    }
}

fn kill(process: u32) {
    if let Some(process) = Pid::from_raw(process.cast_signed()) {
        // Fails if it has already ended.
        let _ = kill_process(process, Signal::KILL);
    }
}

/// Removes the folder of a container with this name, if it has one.
pub(super) fn remove(name: &str) {
    let removed = folder(name).and_then(|folder| match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    });
    if let Err(error) = removed {
        log::warn!("cannot remove the compiled code of {name}: {error:#}");
    }
}

fn folder(name: &str) -> anyhow::Result<PathBuf> {
    Ok(spotter_cache::folder("pods")?.join(name))
}
