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

use super::cgroups::Cgroups;
use super::plan::Plan;

thread_local! {
    /// The container of this process, where it is one that holds one.
    static HELD: RefCell<Option<Libcontainer>> = const { RefCell::new(None) };
}

/// The process that holds a container.
pub struct Container(Zygote);

/// Which of a container's processes a signal is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Receivers {
    First,
    All,
}

/// What went wrong in the other process, in words.
type Outcome<T> = Result<T, String>;

impl Container {
    /// Makes the container, up to but without the start of its program.
    ///
    /// # Errors
    /// What the system, or the container's own configuration, refuses.
    pub fn create(plan: Plan) -> anyhow::Result<Self> {
        let holder = Zygote::global().spawn();
        let create = |plan: Plan| -> Outcome<()> {
            let built = build(plan).map_err(|error| format!("{error:#}"))?;
            HELD.with_borrow_mut(|held| *held = Some(built));
            Ok(())
        };
        outcome(holder.try_run(create, plan))?;
        Ok(Self(holder))
    }

    /// The process of its program.
    ///
    /// # Errors
    /// Where there is none.
    pub fn pid(&self) -> anyhow::Result<i32> {
        let pid = |_: ()| held(|container| Ok(container.pid().map(i32::from)));
        self.with(pid, ())?.context("the container has no process")
    }

    /// Starts its program.
    ///
    /// # Errors
    /// Where it has been started before.
    pub fn start(&self) -> anyhow::Result<()> {
        self.with(|_: ()| held(|container| Ok(container.start()?)), ())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// A number that is no signal; a container that has ended.
    pub fn kill(&self, signal: u32, receivers: Receivers) -> anyhow::Result<()> {
        let kill = |(signal, receivers): (u32, Receivers)| {
            held(|container| {
                let signal = Signal::try_from(signal.cast_signed())
                    .map_err(|_| anyhow!("{signal} is no signal"))?;
                Ok(container.kill(signal, receivers == Receivers::All)?)
            })
        };
        self.with(kill, (signal, receivers))
    }

    /// Removes its cgroup and its state; its program is killed, where it still runs.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn delete(&self) -> anyhow::Result<()> {
        self.with(|_: ()| held(|container| Ok(container.delete(true)?)), ())
    }

    fn with<A, T>(&self, what: fn(A) -> Outcome<T>, argument: A) -> anyhow::Result<T>
    where
        A: Serialize + DeserializeOwned + 'static,
        T: Serialize + DeserializeOwned + 'static,
    {
        outcome(self.0.try_run(what, argument))
    }
}

fn outcome<T, E: std::fmt::Display>(of: Result<Outcome<T>, E>) -> anyhow::Result<T> {
    match of {
        Ok(outcome) => outcome.map_err(|error| anyhow!(error)),
        Err(error) => Err(anyhow!("the process that holds the container failed: {error}")),
    }
}

fn held<T>(what: impl FnOnce(&mut Libcontainer) -> anyhow::Result<T>) -> Outcome<T> {
    HELD.with_borrow_mut(|held| {
        let container = held.as_mut().ok_or("there is no container")?;
        what(container).map_err(|error| format!("{error:#}"))
    })
}

fn build(plan: Plan) -> anyhow::Result<Libcontainer> {
    let Plan { request, states, cgroups, program } = plan;
    let mut builder = ContainerBuilder::new(request.id, SyscallType::Linux)
        .with_executor(program)
        .with_root_path(states)?;
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
        .with_systemd(cgroups == Cgroups::Systemd)
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
    const PATIENCE: Duration = Duration::from_secs(5);
    if !state.exists() {
        return Ok(());
    }
    let mut container = Libcontainer::load(state.to_owned())?;
    let pid = container.pid();
    // One that has ended cannot be killed.
    let _ = container.kill(Signal::try_from("SIGKILL")?, true);
    // Its cgroup can only go when its last process has.
    let began = Instant::now();
    while pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
        && began.elapsed() < PATIENCE
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    container.delete(true)?;
    Ok(())
}
