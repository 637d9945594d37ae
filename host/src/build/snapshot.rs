//! Runs a core module's initialiser once and takes its memory as the module's new beginning.

use std::path::Path;

use anyhow::Context;
use wasmtime::{Config, Engine, Linker, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtx};
use wasmtime_wizer::Wizer;

/// Runs `wizer-initialize` with the files of `folder` at `/model`, and gives the module that
/// begins where it ended.
///
/// # Errors
/// A module without the initialiser, and whatever the initialiser says is wrong with the model.
pub fn take(module: &[u8], folder: &Path) -> anyhow::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the baker")?;
    runtime.block_on(run(module, folder))
}

async fn run(module: &[u8], folder: &Path) -> anyhow::Result<Vec<u8>> {
    let engine = Engine::new(&Config::new()).map_err(anyhow::Error::from)?;
    let mut wasi = WasiCtx::builder();
    wasi.inherit_stderr()
        .preopened_dir(folder, "/model", FsPerms::ReadOnly)
        .map_err(anyhow::Error::from)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let mut store = Store::new(&engine, wasi.build_p1());
    let snapshot = Wizer::new()
        .run(&mut store, module, async |store, module| {
            let mut linker: Linker<WasiP1Ctx> = Linker::new(module.engine());
            wasmtime_wasi::p1::add_to_linker_async(&mut linker, |context| context)?;
            // wasi:http is there only once the component serves.
            linker.define_unknown_imports_as_traps(module)?;
            linker.instantiate_async(store, module).await
        })
        .await;
    snapshot.map_err(anyhow::Error::from).context("the function's initialiser failed")
}
