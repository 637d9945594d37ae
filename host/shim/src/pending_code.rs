//! Compiled code that a container waits for. The container's process starts at once, so that the startup probe covers
//! the compilation, which takes longer than the kubelet waits for a container to start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use spotter_up::pod;

use super::compile::Compilation;
use super::container_log::ContainerLog;

/// A folder on the node that is mounted into the container, and the compilations that put code there, by file name.
pub struct PendingCode {
    folder: PathBuf,
    compilations: Vec<(String, Compilation)>,
}

/// Compilations that are running. They end with the container.
pub(super) struct RunningCompilations {
    compiler: Arc<SharedCompiler>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct SharedCompiler(Mutex<CompilerState>);

#[derive(Default)]
struct CompilerState {
    /// The process that compiles.
    process: Option<u32>,
    is_cancelled: bool,
}

impl PendingCode {
    /// Creates the folder for the container of this name.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub(super) fn create(name: &str) -> anyhow::Result<Self> {
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

    /// Adds a component, whose code will be in this file.
    pub(super) fn with(mut self, file: String, compilation: Compilation) -> Self {
        self.compilations.push((file, compilation));
        self
    }

    /// Compiles in a thread of its own.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(self, mut log: ContainerLog) -> anyhow::Result<RunningCompilations> {
        let compiler = Arc::new(SharedCompiler::default());
        let observed = Arc::clone(&compiler);
        let compile = move || {
            for (file, compilation) in self.compilations {
                let path = self.folder.join(file);
                let code = compilation.run(&mut log, |process| observed.set_process(process));
                if observed.clear_process() {
                    return;
                }
                // A hard link, so that all pods map the same file.
                let linked = code.and_then(|code| {
                    fs::hard_link(&code, &path).with_context(|| {
                        format!("cannot link {} as {}", code.display(), path.display())
                    })
                });
                if let Err(error) = linked {
                    let failure = pod::failure_path(&path);
                    if let Err(error) = spotter_cache::write_with_mode(
                        &failure,
                        format!("{error:#}").as_bytes(),
                        0o644,
                    ) {
                        log::error!(
                            "cannot tell a container that its code does not compile: {error:#}"
                        );
                    }
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().spawn(compile).context("cannot start a thread")?;
        Ok(RunningCompilations { compiler, thread })
    }
}

impl RunningCompilations {
    /// Stops compiling, and waits until the compiler's process and cgroup are gone: the shim may end at any time after
    /// its container.
    pub(super) fn cancel(self) {
        self.compiler.cancel();
        // It fails only if the thread panicked, which is in the log already.
        let _ = self.thread.join();
    }
}

impl SharedCompiler {
    fn compiler(&self) -> MutexGuard<'_, CompilerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        let mut compiler = self.compiler();
        compiler.is_cancelled = true;
        if let Some(process) = compiler.process.take() {
            kill(process);
        }
    }

    fn set_process(&self, process: u32) {
        let mut compiler = self.compiler();
        if compiler.is_cancelled {
            kill(process);
        } else {
            compiler.process = Some(process);
        }
    }

    /// Notes that the process has ended, and returns whether it was cancelled.
    fn clear_process(&self) -> bool {
        let mut compiler = self.compiler();
        compiler.process = None;
        compiler.is_cancelled
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
