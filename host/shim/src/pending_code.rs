//! Compiled code that a container waits for. The container's process starts at once, so that the startup probe covers
//! the compilation, which takes longer than the kubelet waits for a container to start.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use spotter_up::pod;

use super::compile::Compilation;
use super::container_log::ContainerLog;
use super::panic::catch_panic;

/// A folder on the node that is mounted into the container, and the compilations that put code there, by file name.
pub struct PendingCode {
    folder: PathBuf,
    compilations: Vec<(String, Compilation)>,
}

/// Compilations that are running. They end with the container.
pub(super) struct RunningCompilations {
    compiler: Arc<SharedCompiler>,
    step: Arc<CompilationStep>,
    thread: JoinHandle<()>,
}

/// What a compiler does, in words, until it has compiled everything.
#[derive(Default)]
pub(super) struct CompilationStep(Mutex<Option<String>>);

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
        remove_before(boot_time(), &spotter_cache::folder("pods")?);
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

    /// Compiles in a thread of its own, for the container of this process.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(
        self,
        mut log: ContainerLog,
        container: u32,
    ) -> anyhow::Result<RunningCompilations> {
        let compiler = Arc::new(SharedCompiler::default());
        let observed = Arc::clone(&compiler);
        let step = Arc::new(CompilationStep::default());
        step.set(Some("Waiting for the compiler".to_owned()));
        let shown = Arc::clone(&step);
        let compile = move || {
            for (file, compilation) in self.compilations {
                let path = self.folder.join(file);
                let on_start = |process| observed.set_process(process);
                let announce = |line: &str| {
                    shown.set(Some(line.to_owned()));
                    log.write_line(line);
                };
                let code = catch_panic(|| compilation.run(announce, on_start));
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
                    report(&error, &path, &mut log, container);
                    return;
                }
            }
            shown.set(None);
        };
        let thread = std::thread::Builder::new().spawn(compile).context("cannot start a thread")?;
        Ok(RunningCompilations { compiler, step, thread })
    }
}

/// Tells a container why the code that it waits for does not come.
fn report(error: &anyhow::Error, path: &Path, log: &mut ContainerLog, container: u32) {
    let text = format!("{error:#}");
    let written = spotter_cache::write_with_mode(&pod::failure_path(path), text.as_bytes(), 0o644);
    if let Err(error) = written {
        // The disk may be full. The container would wait for ever.
        log.write_line(&format!("Cannot compile: {text}"));
        log::error!("cannot tell a container that its code does not compile: {error:#}");
        kill(container);
    }
}

impl RunningCompilations {
    pub(super) fn step(&self) -> Arc<CompilationStep> {
        Arc::clone(&self.step)
    }

    /// Stops compiling, and waits until the compiler's process and cgroup are gone: the shim may end at any time after
    /// its container.
    pub(super) fn cancel(self) {
        self.compiler.cancel();
        // It fails only if the thread panicked, which is in the log already.
        let _ = self.thread.join();
    }
}

impl CompilationStep {
    fn set(&self, step: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// Removes folders that are older than this, because nobody else will: their containers ended with the machine.
fn remove_before(time: SystemTime, pods: &Path) {
    for entry in fs::read_dir(pods).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified < time) {
            // What cannot be removed is tried again for the next container.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn boot_time() -> SystemTime {
    let running = clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs();
    SystemTime::now().checked_sub(Duration::from_secs(running)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn folder(name: &str) -> anyhow::Result<PathBuf> {
    Ok(spotter_cache::folder("pods")?.join(name))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use super::{boot_time, remove_before};

    #[test]
    fn folders_of_before_the_machines_start_are_removed() {
        let pods = tempfile::tempdir().unwrap();
        for (name, age) in [("before", Some(Duration::from_secs(60))), ("since", None)] {
            let folder = pods.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("0.cwasm"), "code").unwrap();
            if let Some(age) = age {
                File::open(&folder).unwrap().set_modified(boot_time() - age).unwrap();
            }
        }
        remove_before(boot_time(), pods.path());
        let left: Vec<_> =
            fs::read_dir(pods.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["since"]);
    }
}
