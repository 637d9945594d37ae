//! A container, made and held by a process of its own.
//!
//! What makes containers clones itself, which only a process of one thread may do. So this process forks
//! one before its threads start, a zygote, and that one another for each container.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use libcontainer::container::Container as Libcontainer;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zygote::Zygote;

use super::cgroups::CgroupDriver;
use super::plan::Plan;

thread_local! {
    /// The container of this process, where it is one that holds one.
    static CONTAINER: RefCell<Option<Libcontainer>> = const { RefCell::new(None) };
}

/// The process that holds a container.
pub struct Container(Zygote);

/// Which of a container's processes a signal is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum SignalTarget {
    Init,
    All,
}

/// What went wrong in the other process, in words.
type RemoteResult<T> = Result<T, String>;

impl Container {
    /// Makes the container, up to but without the start of its program.
    ///
    /// # Errors
    /// What the system, or the container's own configuration, refuses.
    pub fn create(plan: Plan) -> anyhow::Result<Self> {
        let holder = Zygote::global().spawn();
        let create = |plan: Plan| -> RemoteResult<()> {
            let built = build(plan).map_err(|error| format!("{error:#}"))?;
            CONTAINER.with_borrow_mut(|container| *container = Some(built));
            Ok(())
        };
        flatten(holder.try_run(create, plan))?;
        Ok(Self(holder))
    }

    /// The process of its program.
    ///
    /// # Errors
    /// Where there is none.
    pub fn pid(&self) -> anyhow::Result<i32> {
        let pid = |_: ()| with_container(|container| Ok(container.pid().map(i32::from)));
        self.with(pid, ())?.context("the container has no process")
    }

    /// Starts its program.
    ///
    /// # Errors
    /// Where it has been started before.
    pub fn start(&self) -> anyhow::Result<()> {
        self.with(|_: ()| with_container(|container| Ok(container.start()?)), ())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// A number that is no signal; a container that has ended.
    pub fn kill(&self, signal: u32, target: SignalTarget) -> anyhow::Result<()> {
        let kill = |(signal, target): (u32, SignalTarget)| {
            with_container(|container| {
                let signal = Signal::try_from(signal.cast_signed())
                    .map_err(|_| anyhow!("{signal} is no signal"))?;
                Ok(container.kill(signal, target == SignalTarget::All)?)
            })
        };
        self.with(kill, (signal, target))
    }

    /// Removes its cgroup and its state; its program is killed, where it still runs.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn delete(&self) -> anyhow::Result<()> {
        self.with(|_: ()| with_container(|container| Ok(container.delete(true)?)), ())
    }

    fn with<A, T>(&self, action: fn(A) -> RemoteResult<T>, argument: A) -> anyhow::Result<T>
    where
        A: Serialize + DeserializeOwned + 'static,
        T: Serialize + DeserializeOwned + 'static,
    {
        flatten(self.0.try_run(action, argument))
    }
}

fn flatten<T, E: std::fmt::Display>(nested: Result<RemoteResult<T>, E>) -> anyhow::Result<T> {
    match nested {
        Ok(result) => result.map_err(|error| anyhow!(error)),
        Err(error) => Err(anyhow!("the process that holds the container failed: {error}")),
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

fn build(plan: Plan) -> anyhow::Result<Libcontainer> {
    let Plan { request, state_root, cgroup_driver, program } = plan;
    let mut builder = ContainerBuilder::new(request.id, SyscallType::Linux)
        .with_executor(program)
        .with_root_path(state_root)?;
    if let Some(stream) = stream(&request.stdin)? {
        builder = builder.with_stdin(stream);
    }
    if let Some(stream) = stream(&request.stdout)? {
        builder = builder.with_stdout(stream);
    }
    if let Some(stream) = stream(&request.stderr)? {
        builder = builder.with_stderr(stream);
    }
    let container = builder
        .as_init(&request.bundle)
        // The shim's child, and not this process's: the shim waits for it.
        .as_sibling(true)
        .with_systemd(cgroup_driver == CgroupDriver::Systemd)
        .build()?;
    Ok(container)
}

/// Opens a stream as containerd names it: a pipe's path, or a file's URL; none where it wants none
/// (<https://github.com/containerd/containerd/blob/main/core/runtime/v2/README.md#logging>).
fn stream(name: &str) -> anyhow::Result<Option<File>> {
    if name.is_empty() {
        return Ok(None);
    }
    let opened = match name.split_once("://") {
        None => File::options().read(true).write(true).open(name),
        Some(("file", path)) => File::options().create(true).append(true).open(path),
        Some((scheme, _)) => {
            bail!("the log {name} is of the kind {scheme}://, which is not supported")
        }
    };
    opened.map(Some).with_context(|| format!("cannot open the stream {name}"))
}

/// Kills and removes the container of which this is the state, whoever made it; nothing where there is
/// none.
///
/// # Errors
/// What the system refuses.
pub fn remove(state: &Path) -> anyhow::Result<()> {
    const KILL_TIMEOUT: Duration = Duration::from_secs(5);
    if !state.exists() {
        return Ok(());
    }
    let mut container = Libcontainer::load(state.to_owned())?;
    let pid = container.pid();
    // One that has ended cannot be killed.
    let _ = container.kill(Signal::try_from("SIGKILL")?, true);
    // Its cgroup can only go when its last process has.
    let started = Instant::now();
    while pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
        && started.elapsed() < KILL_TIMEOUT
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    container.delete(true)?;
    Ok(())
}
