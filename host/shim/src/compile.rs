//! Compiles a component in a process of its own, which gives its memory back when it ends, in the cgroup of the pod
//! that needs the component.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use spotter_app::Component;
use spotter_app::manifest::Interruption;
use spotter_config::Limits;
use spotter_runtime::{checked, code_cache, engine};
use zygote::Zygote;

use super::container_log::ContainerLog;
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

/// For whom a component is compiled.
#[derive(Clone)]
pub(super) struct Beneficiary {
    /// The cgroup below the pod's, if it has one.
    pub cgroup: Option<PodCgroup>,
    pub oom_score_adj: Option<i32>,
}

/// The memory that compiling takes, for each byte of the component. Measured for the detector: 699 MiB for 38 MB.
const COMPILE_BYTES_PER_WASM_BYTE: u64 = 20;
/// The most memory that compiling may take for a pod whose own limit is lower.
const MAX_BYTES_BEYOND_POD: u64 = 2 << 30;

impl Code {
    /// Checks a component and looks its code up.
    ///
    /// # Errors
    /// If the component is invalid, or the cache cannot be read.
    pub(super) fn of(component: &Component, pod: &Beneficiary) -> anyhow::Result<Self> {
        let (source, interruption) = (checked::component(component)?, component.interruption);
        let compiler = engine::compiler(&Limits::default(), interruption)?;
        if let Some(code) = code_cache::find(&compiler, &source)? {
            return Ok(Self::Cached(code));
        }
        let needed = std::fs::metadata(&source)?.len().saturating_mul(COMPILE_BYTES_PER_WASM_BYTE);
        let (id, oom_score_adj) = (component.id.clone(), pod.oom_score_adj);
        let cgroup = pod.cgroup.clone().map(|cgroup| with_room(cgroup, needed));
        Ok(Self::Missing(Compilation { source, id, interruption, cgroup, oom_score_adj }))
    }
}

/// The pod's cgroup, or one beside it. A pod that is too small for the compiler may still be large enough for its
/// function.
fn with_room(pod: PodCgroup, needed: u64) -> PodCgroup {
    let is_small = pod.memory().is_some_and(|memory| memory < needed);
    if is_small && needed <= MAX_BYTES_BEYOND_POD { pod.beside(MAX_BYTES_BEYOND_POD) } else { pod }
}

impl Compilation {
    /// Compiles into the node's cache, and returns the file of compiled code. `on_start` is called with the id of the
    /// process that compiles, which may be killed.
    ///
    /// # Errors
    /// If the component cannot be compiled, or the process was killed.
    pub(super) fn run(
        self,
        log: &mut ContainerLog,
        on_start: impl FnOnce(u32),
    ) -> anyhow::Result<PathBuf> {
        let (id, cgroup) = (self.id.clone(), self.cgroup.clone());
        log.say(&format!("Compiling `{id}`, once for this node: it serves when that is done"));
        let started = Instant::now();
        // Forked from the process with one thread, which is small. It is killed when it goes out of scope.
        let process = Zygote::global().spawn();
        let failed =
            || format!("the process that compiled `{id}` was killed, perhaps for lack of memory");
        let pid = process.try_run(|()| std::process::id(), ());
        on_start(pid.map_err(|error| anyhow!("{error}")).with_context(failed)?);
        let done = process.try_run(compile, self);
        drop(process);
        if let Some(cgroup) = cgroup {
            cgroup.remove();
        }
        let code = done.map_err(|error| anyhow!("{error}")).with_context(failed)?;
        let code = code.map_err(|error| anyhow!(error))?;
        log.say(&format!("Compiled `{id}` in {:.1} s", started.elapsed().as_secs_f64()));
        Ok(code)
    }
}

/// Runs in the other process.
fn compile(job: Compilation) -> Result<PathBuf, String> {
    let compile = || -> anyhow::Result<PathBuf> {
        // One at a time on a node: each takes all cores, and much memory.
        let _turn = spotter_cache::lock_compilation()?;
        if let Some(cgroup) = &job.cgroup {
            cgroup.join()?;
        }
        if let Some(score) = job.oom_score_adj {
            // Refused only if it is lower than what the shim has.
            let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
        }
        let compiler = engine::compiler(&Limits::default(), job.interruption)?;
        code_cache::compile(&compiler, &job.source, &job.id)
    };
    compile().map_err(|error| format!("{error:#}"))
}
