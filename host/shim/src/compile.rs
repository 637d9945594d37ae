//! Compiles a component in a process that ends, and so gives its memory back, in the cgroup of the pod that needs it.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use zygote::Zygote;

use super::container_log::ContainerLog;
use super::pod_cgroup::PodCgroup;
use spotter_app::Component;
use spotter_app::manifest::Interruption;
use spotter_config::Limits;
use spotter_runtime::{checked, compiled, engine};

/// What the other process compiles, and where.
#[derive(Deserialize, Serialize)]
struct Job {
    source: PathBuf,
    /// The component's id.
    id: String,
    interruption: Interruption,
    cgroup: Option<PodCgroup>,
}

/// The memory that compiling takes, for each byte of the component. Measured for the detector: 671 MB for 38 MB.
const MEMORY_FACTOR: u64 = 20;

/// Compiles a component into the node's cache, unless it is there, and returns the file of compiled code. What takes
/// long is said in the container's log.
///
/// # Errors
/// If the component is invalid, or the process that compiles it was killed.
pub(super) fn compile(
    component: &Component,
    pod: Option<PodCgroup>,
    log: &mut ContainerLog,
) -> anyhow::Result<PathBuf> {
    let (source, interruption) = (checked::component(component)?, component.interruption);
    let compiler = engine::compiler(&Limits::default(), interruption)?;
    if let Some(code) = compiled::find(&compiler, &source)? {
        return Ok(code);
    }
    let id = component.id.clone();
    let needed = std::fs::metadata(&source)?.len().saturating_mul(MEMORY_FACTOR);
    // A pod that is too small for the compiler may still be large enough for its function.
    let cgroup = pod.filter(|pod| pod.memory().is_none_or(|memory| memory >= needed));
    log.say(&format!(
        "Compiling `{id}`, once for this node: the container starts when that is done"
    ));
    let started = Instant::now();
    // Forked from the process with one thread, which is small. It is killed when it goes out of scope.
    let process = Zygote::global().spawn();
    let job = Job { source, id: id.clone(), interruption, cgroup: cgroup.clone() };
    let done = process.try_run(run, job);
    drop(process);
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    let code = match done {
        Ok(compiled) => compiled.map_err(|error| anyhow!(error))?,
        Err(error) => {
            return Err(anyhow!("{error}")).with_context(|| {
                format!(
                    "the process that compiled `{id}` was killed; it may need {} MiB",
                    needed >> 20
                )
            });
        }
    };
    log.say(&format!("Compiled `{id}` in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(code)
}

/// Runs in the other process.
fn run(job: Job) -> Result<PathBuf, String> {
    let compile = || -> anyhow::Result<PathBuf> {
        // One at a time on a node: each takes all cores, and much memory.
        let _turn = spotter_cache::turn()?;
        if let Some(cgroup) = &job.cgroup {
            cgroup.join()?;
        }
        let compiler = engine::compiler(&Limits::default(), job.interruption)?;
        compiled::compile(&compiler, &job.source, &job.id)
    };
    compile().map_err(|error| format!("{error:#}"))
}
