//! `spotter build`: compiles a component from its source, bakes its model in, and wraps it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::bake::{self, ModelFolder};
use crate::toolchain::{self, ToolchainOptions};
use spotter_app::{App, Bake, Build, Component};
use spotter_cache as cache;
use spotter_progress::print_message;
use spotter_runtime::compile::wrap::{Adapter, wrap};

/// Builds every component of an application that has a build command, and bakes or wraps every one that has a
/// module.
///
/// # Errors
/// If a step fails. The error names the component.
pub fn build(app: &App, toolchain: ToolchainOptions) -> anyhow::Result<()> {
    for component in app.components.values().chain(app.idle.values()) {
        build_component(component, toolchain)
            .with_context(|| format!("building `{}`", component.id))?;
    }
    Ok(())
}

fn build_component(component: &Component, toolchain: ToolchainOptions) -> anyhow::Result<()> {
    if let Some(build) = &component.build {
        compile(&component.id, build, toolchain)?;
    }
    if let Some(bake) = &component.bake {
        bake_to(bake, &component.source)?;
    }
    Ok(())
}

fn compile(id: &str, build: &Build, toolchain: ToolchainOptions) -> anyhow::Result<()> {
    for command in &build.commands {
        print_message(&format!("Building component {id} with `{command}`"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(absolute(&build.working_directory)?);
        clear_cargo_environment(&mut shell);
        if command.contains(toolchain::WASM_TARGET_TRIPLE) {
            toolchain::find(toolchain)?.apply(&mut shell)?;
        }
        let status = shell.status().context("cannot start a shell (sh)")?;
        ensure!(status.success(), "`{command}` failed: {status}");
    }
    Ok(())
}

/// Removes the variables in which `cargo run` passes its own toolchain, package and target folder to its children:
/// they do not apply to a build command.
fn clear_cargo_environment(command: &mut Command) {
    const KEPT_CARGO_VARIABLES: [&str; 5] = [
        "CARGO_BUILD_JOBS",
        "CARGO_HOME",
        "CARGO_NET_OFFLINE",
        "CARGO_HTTP_PROXY",
        "CARGO_TERM_COLOR",
    ];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = text.starts_with("CARGO") && !text.starts_with("CARGO_REGISTRIES");
        if inherited && !KEPT_CARGO_VARIABLES.contains(&text.as_ref()) || text == "RUSTUP_TOOLCHAIN"
        {
            command.env_remove(&name);
        }
    }
}

/// Bakes the model into a module, if there is one, and wraps the module as a component.
fn bake_to(bake: &Bake, target: &Path) -> anyhow::Result<()> {
    let module = std::fs::read(&bake.module)
        .with_context(|| format!("cannot read {}", bake.module.display()))?;
    let component = match &bake.model {
        Some(folder) => {
            let cached = baked(&module, &ModelFolder::read(folder)?)
                .with_context(|| format!("cannot bake {}", bake.module.display()))?;
            std::fs::read(&cached).with_context(|| format!("cannot read {}", cached.display()))?
        }
        None => wrap(&module, Adapter::Reactor)?,
    };
    if std::fs::read(target).is_ok_and(|present| present == component) {
        return Ok(());
    }
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    cache::write_atomically(target, &component)
}

/// Bakes a model into a module, or finds the result in the cache. Returns the component's path there.
///
/// # Errors
/// If the model or the module is invalid, or the cache cannot be written.
pub fn baked(module: &[u8], model: &ModelFolder) -> anyhow::Result<PathBuf> {
    let key = bake::key(module, model);
    let cached = cache::folder("baked")?.join(format!("{key}.wasm"));
    if !cached.is_file() {
        let component = bake::bake_with_progress(module, model)?;
        cache::write_atomically(&cached, &component)?;
    }
    Ok(cached)
}

fn absolute(folder: &Path) -> anyhow::Result<PathBuf> {
    folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))
}
