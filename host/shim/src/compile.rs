//! Compiles a component in a process of its own, which gives its memory back when it ends, in the cgroup of the pod
//! that needs the component.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use spotter_app::Component;
use spotter_app::component_manifest::Interruption;
use spotter_config::Limits;
use spotter_runtime::{code_cache, engine, prepare};
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
}

/// The memory that compiling takes, for each byte of the component. Measured for the detector: 699 MiB for 38 MB.
const COMPILE_BYTES_PER_WASM_BYTE: u64 = 20;

impl Code {
    /// Checks a component and looks its code up.
    ///
    /// # Errors
    /// If the component is invalid, or the cache cannot be read.
    pub(super) fn of(component: &Component, pod: Option<PodCgroup>) -> anyhow::Result<Self> {
        let (source, interruption) = (prepare::component(component)?, component.interruption);
        let compiler = engine::compiler(&Limits::default(), interruption)?;
        if let Some(code) = code_cache::find(&compiler, &source)? {
            return Ok(Self::Cached(code));
        }
        let needed = std::fs::metadata(&source)?.len().saturating_mul(COMPILE_BYTES_PER_WASM_BYTE);
        // A pod that is too small for the compiler may still be large enough for its function.
        let cgroup = pod.filter(|pod| pod.memory().is_none_or(|memory| memory >= needed));
        Ok(Self::Missing(Compilation { source, id: component.id.clone(), interruption, cgroup }))
    }
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
        let compiler = engine::compiler(&Limits::default(), job.interruption)?;
        code_cache::compile(&compiler, &job.source, &job.id)
    };
    compile().map_err(|error| format!("{error:#}"))
}
