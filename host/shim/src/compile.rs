//! Compiles a component in a process of its own, whose memory is freed when it ends, in the cgroup of the pod that
//! needs the component.

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spotter_app::Component;
use spotter_app::component_manifest::Interruption;
use spotter_config::Limits;
use spotter_nn::heap;
use spotter_runtime::compile::{code_cache, compiler_memory, prepare};
use spotter_runtime::engine;
use zygote::Zygote;

use super::pod_cgroup::PodCgroup;

/// The compiled code of a component.
pub(super) enum Code {
    /// It is in the node's cache.
    Cached(PathBuf),
    Missing(Compilation),
}

/// What has to be compiled, and where.
#[derive(Deserialize, Serialize)]
pub(super) struct Compilation {
    source: PathBuf,
    /// The component's id.
    id: String,
    interruption: Interruption,
    cgroup: Option<PodCgroup>,
    /// How soon the system kills the compiler for lack of memory, as it would the pod.
    oom_score_adj: Option<i32>,
}

/// The limits of the pod that needs a component.
#[derive(Clone)]
pub(super) struct PodResources {
    /// The cgroup below the pod's, if it has one.
    pub cgroup: Option<PodCgroup>,
    pub oom_score_adj: Option<i32>,
}

/// The most memory that compiling may take for a pod whose own limit is lower.
const MAX_COMPILER_BYTES_BEYOND_POD: u64 = 2 << 30;

impl Code {
    /// Checks a component and looks its code up.
    ///
    /// # Errors
    /// If the component is invalid, or the cache cannot be read.
    pub(super) fn find(component: &Component, pod: &PodResources) -> anyhow::Result<Self> {
        let (source, interruption) = (prepare::component(component)?, component.interruption);
        let compiler = engine::on_demand_engine(&Limits::default(), interruption)?;
        if let Some(code) = code_cache::find(&compiler, &source)? {
            return Ok(Self::Cached(code));
        }
        let needed = compiler_memory::needed(&source)?;
        let (id, oom_score_adj) = (component.id.clone(), pod.oom_score_adj);
        let cgroup = pod.cgroup.clone().map(|cgroup| compiler_cgroup(cgroup, needed));
        Ok(Self::Missing(Compilation { source, id, interruption, cgroup, oom_score_adj }))
    }
}

/// The pod's cgroup, or one beside it. A pod that is too small for the compiler may still be large enough for its
/// function.
fn compiler_cgroup(pod: PodCgroup, needed: u64) -> PodCgroup {
    let is_small = pod.memory().is_some_and(|memory| memory < needed);
    if is_small && needed <= MAX_COMPILER_BYTES_BEYOND_POD {
        pod.beside(MAX_COMPILER_BYTES_BEYOND_POD)
    } else {
        pod
    }
}

impl Compilation {
    /// Compiles into the node's cache, and returns the file of compiled code. `announce` is called with each step, in
    /// words, and `on_start` with the id of the process that compiles, which may be killed.
    ///
    /// # Errors
    /// If the component cannot be compiled, or the process was killed.
    pub(super) fn run(
        self,
        mut announce: impl FnMut(&str),
        on_start: impl FnOnce(u32),
    ) -> anyhow::Result<PathBuf> {
        let (id, cgroup) = (self.id.clone(), self.cgroup.clone());
        // Forked from the process with one thread, which is small. It is killed when it goes out of scope.
        let process = Compiler { process: Zygote::global().spawn(), id: id.clone() };
        on_start(process.run(|()| Ok(std::process::id()), ())?);
        if !process.run(take_free_turn, ())? {
            announce(&format!(
                "Another image is being compiled on this node: `{id}` waits for its turn"
            ));
            process.run(wait_for_turn, ())?;
        }
        announce(&format!(
            "Compiling `{id}`, once for this node; it serves requests when this is done"
        ));
        let started = Instant::now();
        let code = process.run(compile, self);
        drop(process);
        if let Some(cgroup) = cgroup {
            cgroup.remove();
        }
        let code = code?;
        announce(&format!("Compiled `{id}` in {:.1} s", started.elapsed().as_secs_f64()));
        Ok(code)
    }
}

/// The process that compiles.
struct Compiler {
    process: Zygote,
    /// The component's id.
    id: String,
}

impl Compiler {
    /// Runs one step in the process.
    ///
    /// # Errors
    /// If the step fails, or the process was killed.
    fn run<A, T>(&self, step: fn(A) -> Result<T, String>, argument: A) -> anyhow::Result<T>
    where
        A: Serialize + DeserializeOwned + 'static,
        T: Serialize + DeserializeOwned + 'static,
    {
        let done = self.process.try_run(step, argument);
        let done = done.map_err(|error| anyhow!("{error}")).with_context(|| {
            format!(
                "the process that compiled `{}` was killed, perhaps for lack of memory",
                self.id
            )
        })?;
        done.map_err(|error| anyhow!(error))
    }
}

thread_local! {
    /// This process's turn to compile. There is one on a node, because a compiler takes all cores, and much memory.
    static COMPILATION_TURN: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// Takes the turn, unless another process has it.
fn take_free_turn((): ()) -> Result<bool, String> {
    let turn = spotter_cache::try_lock_compilation().map_err(|error| format!("{error:#}"))?;
    let is_free = turn.is_some();
    COMPILATION_TURN.set(turn);
    Ok(is_free)
}

fn wait_for_turn((): ()) -> Result<(), String> {
    let turn = spotter_cache::lock_compilation().map_err(|error| format!("{error:#}"))?;
    COMPILATION_TURN.set(Some(turn));
    Ok(())
}

/// Compiles, and gives the turn back.
fn compile(job: Compilation) -> Result<PathBuf, String> {
    let compile = || -> anyhow::Result<PathBuf> {
        let _turn = COMPILATION_TURN.take();
        if let Some(cgroup) = &job.cgroup {
            cgroup.join()?;
        }
        if let Some(score) = job.oom_score_adj {
            // Refused only if it is lower than what the shim has.
            let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
        }
        // Most of the memory is freed when the code is linked, before all of it is copied for the last time.
        heap::keep_no_free_memory();
        let compiler = engine::on_demand_engine(&Limits::default(), job.interruption)?;
        code_cache::compile(&compiler, &job.source, &job.id)
    };
    compile().map_err(|error| format!("{error:#}"))
}
