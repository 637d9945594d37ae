//! Compiles components ahead of time for other machines, and recompiles code that does not fit this one.

use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use wasmtime::component::Component as Compiled;
use wasmtime::{Config, Engine};

use super::prepare;
use crate::engine_config::engine_config;
use spotter_app::Component;
use spotter_app::runtime_options::Allocation;
use spotter_config::Limits;

/// The instructions that compiled code may use on amd64: a level of
/// <https://gitlab.com/x86-psABIs/x86-64-ABI>. On arm64 there is one level, the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CpuLevel {
    /// SSE4.2: Intel from 2008, AMD from 2011
    #[value(name = "x86-64-v2")]
    V2,
    /// AVX2 and FMA: Intel from 2013, AMD from 2015; a few low-end Intel processors lack them
    #[value(name = "x86-64-v3")]
    V3,
}

impl CpuLevel {
    /// Cranelift's name for it.
    fn preset(self) -> &'static str {
        match self {
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
        }
    }
}

/// The compiled code of a component, for every Linux machine of this architecture that has the level's instructions.
///
/// # Errors
/// If the component is invalid.
pub fn compile(component: &Component, level: CpuLevel) -> anyhow::Result<Vec<u8>> {
    let source = prepare::component(component)?;
    let bytes =
        std::fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let mut config =
        engine_config(&Limits::default(), component.interruption, Allocation::OnDemand);
    // A target that is named explicitly does without this processor's own instructions.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    config.target(&triple).map_err(anyhow::Error::from)?;
    if cfg!(target_arch = "x86_64") {
        enable(&mut config, level.preset());
    }
    let engine = Engine::new(&config).map_err(anyhow::Error::from);
    let compiled = engine.and_then(|engine| Ok(engine.precompile_component(&bytes)?));
    compiled.with_context(|| format!("cannot compile `{}`", component.id))
}

#[allow(unsafe_code, reason = "some of Cranelift's flags would make code unsound")]
fn enable(config: &mut Config, preset: &str) {
    // SAFETY: a preset only lets the compiler use instructions. A program that loads the code first checks that its
    // processor has them.
    unsafe { config.cranelift_flag_enable(preset) };
}

/// Compiles a component into this process's memory, because the code that came with it cannot be used for this
/// `reason`. Nothing is written: the file system may be read-only, or no place for code.
///
/// # Errors
/// If the component is invalid.
pub(crate) fn compile_here(
    engine: &Engine,
    component: &Component,
    reason: &anyhow::Error,
) -> anyhow::Result<Compiled> {
    let id = &component.id;
    tracing::warn!(
        component = id,
        reason = format!("{reason:#}"),
        "the compiled code that came with the component does not fit this machine, so it is compiled again at every start"
    );
    let began = Instant::now();
    let source = prepare::component(component)?;
    let compiled = Compiled::from_file(engine, &source).map_err(anyhow::Error::from);
    let compiled = compiled.with_context(|| format!("cannot compile `{id}`"))?;
    tracing::info!(component = id, seconds = began.elapsed().as_secs_f64(), "compiled");
    Ok(compiled)
}
