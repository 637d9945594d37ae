//! Containers, each created and controlled by a separate process.
//!
//! Creating a container clones the process, which must have only one thread. So the shim forks a zygote before
//! its threads start, and the zygote forks a process for each container.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use libcontainer::container::Container as Libcontainer;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zygote::Zygote;

use super::cgroups::CgroupDriver;
use super::plan::Plan;
use super::stdio;

thread_local! {
    /// The container that this process controls, if any.
    static CONTAINER: RefCell<Option<Libcontainer>> = const { RefCell::new(None) };
}

/// A container, and the process that controls it.
pub struct Container {
    holder: Zygote,
    /// The folder of its state, with which it can be stopped and removed if the process was killed.
    state: PathBuf,
}

/// Which of a container's processes receive a signal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum SignalTarget {
    Init,
    All,
}

/// A result from the other process, with the error as text.
type RemoteResult<T> = Result<T, String>;

impl Container {
    /// Creates the container without starting its program.
    ///
    /// # Errors
    /// If the system refuses, or the container's configuration is invalid.
    pub fn create(plan: Plan) -> anyhow::Result<Self> {
        let holder = Zygote::global().spawn();
        let state = plan.state_root.join(&plan.request.id);
        let create = |plan: Plan| -> RemoteResult<()> {
            let built = build(plan).map_err(|error| format!("{error:#}"))?;
            CONTAINER.with_borrow_mut(|container| *container = Some(built));
            Ok(())
        };
        flatten(holder.try_run(create, plan))?;
        Ok(Self { holder, state })
    }

    /// The process id of its program.
    ///
    /// # Errors
    /// If it has no process.
    pub fn pid(&self) -> anyhow::Result<i32> {
        let pid = |_: ()| with_container(|container| Ok(container.pid().map(i32::from)));
        self.with(pid, ())?.context("the container has no process")
    }

    /// Starts its program.
    ///
    /// # Errors
    /// If it has already been started.
    pub fn start(&self) -> anyhow::Result<()> {
        self.with(|_: ()| with_container(|container| Ok(container.start()?)), ())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the number is not a signal, or the container has ended.
    pub fn kill(&self, signal: u32, target: SignalTarget) -> anyhow::Result<()> {
        let kill = |(signal, target): (u32, SignalTarget)| {
            with_container(|container| send(container, signal, target))
        };
        match self.holder.try_run(kill, (signal, target)) {
            Ok(killed) => killed.map_err(|error| anyhow!(error)),
            Err(_) => send(&mut Libcontainer::load(self.state.clone())?, signal, target),
        }
    }

    /// Kills its program if it is still running, and removes its cgroup and state.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn delete(&self) -> anyhow::Result<()> {
        let delete = |_: ()| with_container(|container| Ok(container.delete(true)?));
        match self.holder.try_run(delete, ()) {
            Ok(deleted) => deleted.map_err(|error| anyhow!(error)),
            Err(_) => remove(&self.state),
        }
    }

    fn with<A, T>(&self, action: fn(A) -> RemoteResult<T>, argument: A) -> anyhow::Result<T>
    where
        A: Serialize + DeserializeOwned + 'static,
        T: Serialize + DeserializeOwned + 'static,
    {
        flatten(self.holder.try_run(action, argument))
    }
}

fn flatten<T, E: std::fmt::Display>(nested: Result<RemoteResult<T>, E>) -> anyhow::Result<T> {
    match nested {
        Ok(result) => result.map_err(|error| anyhow!(error)),
        Err(error) => Err(anyhow!("the process that controls the container failed: {error}")),
    }
}

fn with_container<T>(
    action: impl FnOnce(&mut Libcontainer) -> anyhow::Result<T>,
) -> RemoteResult<T> {
    CONTAINER.with_borrow_mut(|container| {
        let container = container.as_mut().ok_or("there is no container")?;
        action(container).map_err(|error| format!("{error:#}"))
    })
}

fn send(container: &mut Libcontainer, signal: u32, target: SignalTarget) -> anyhow::Result<()> {
    let signal =
        Signal::try_from(signal.cast_signed()).map_err(|_| anyhow!("{signal} is not a signal"))?;
    Ok(container.kill(signal, target == SignalTarget::All)?)
}

fn build(plan: Plan) -> anyhow::Result<Libcontainer> {
    let Plan { request, state_root, cgroup_driver, program } = plan;
    let mut builder = ContainerBuilder::new(request.id, SyscallType::Linux)
        .with_executor(program)
        .with_root_path(state_root)?;
    if let Some(stream) = stdio::open(&request.stdin)? {
        builder = builder.with_stdin(stream);
    }
    if let Some(stream) = stdio::open(&request.stdout)? {
        builder = builder.with_stdout(stream);
    }
    if let Some(stream) = stdio::open(&request.stderr)? {
        builder = builder.with_stderr(stream);
    }
    let container = builder
        .as_init(&request.bundle)
        // A child of the shim rather than of this process, because the shim waits for it.
        .as_sibling(true)
        .with_systemd(cgroup_driver == CgroupDriver::Systemd)
        .build()?;
    Ok(container)
}

/// Kills and removes the container with this state, whichever process created it. Does nothing if there is no
/// such state.
///
/// # Errors
/// If the system refuses.
pub fn remove(state: &Path) -> anyhow::Result<()> {
    const KILL_TIMEOUT: Duration = Duration::from_secs(5);
    if !state.exists() {
        return Ok(());
    }
    let mut container = Libcontainer::load(state.to_owned())?;
    let pid = container.pid();
    // Fails if it has already ended.
    let _ = container.kill(Signal::try_from("SIGKILL")?, true);
    // Its cgroup can only be removed once its last process has ended.
    let started = Instant::now();
    while pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
        && started.elapsed() < KILL_TIMEOUT
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    container.delete(true)?;
    Ok(())
}
