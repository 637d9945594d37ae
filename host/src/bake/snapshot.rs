//! Runs a core module's initialiser and stores the resulting memory in the module.
//!
//! The initialiser runs in two fresh instances. The first finds out which memory blocks the model keeps. The second
//! places those blocks together, and its memory becomes the snapshot.

use anyhow::{Context, anyhow, ensure};
use spotter_runtime::compile::code_cache;
use tokio::runtime::Runtime;
use wasmparser::ValType;
use wasmtime::{Config, Engine, Instance, Linker, Module, OptLevel, RegallocAlgorithm, Store, Val};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{I32Exit, WasiCtx};
use wasmtime_wizer::{InstanceState, SnapshotVal, Wizer};

/// The most that the first run may write for the second, in bytes.
const MAX_RECORDING_BYTES: usize = 16 << 20;

/// The initialiser that a function exports, under the name that Wizer's own tools use.
const INITIALISER_EXPORT: &str = "wizer-initialize";

/// A module that starts in the state in which its initialiser ended.
pub(super) struct Snapshot {
    pub(super) module: Vec<u8>,
    /// The memory in that state.
    pub(super) memory: Vec<u8>,
    /// What the first run wrote for the second.
    recording: Vec<u8>,
}

/// Runs the initialisers of modules on the files of a model.
pub(super) struct Initialiser<'a> {
    runtime: Runtime,
    files: &'a [Vec<u8>],
}

impl<'a> Initialiser<'a> {
    /// # Errors
    /// If the async runtime cannot start.
    pub(super) fn new(files: &'a [Vec<u8>]) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        Ok(Self { runtime, files })
    }

    /// Runs `wizer-initialize` twice, and takes a snapshot of the state in which the second run ended. The first run
    /// finds out which memory blocks the model keeps; the second places those blocks together.
    ///
    /// # Errors
    /// If the module does not export the initialiser, or the initialiser fails.
    pub(super) fn snapshot(&self, module: &[u8]) -> anyhow::Result<Snapshot> {
        let wizer = Wizer::new();
        let (context, instrumented) = wizer.instrument(module)?;
        let compiled = compile(&instrumented, RegallocAlgorithm::Backtracking)?;
        self.runtime.block_on(async {
            let recording = initialise(&compiled, input(&[], self.files)).await?.recording;
            let mut initialised = initialise(&compiled, input(&recording, self.files)).await?;
            let memory = initialised.memory()?;
            let module = wizer.snapshot(&context, &mut initialised).await?;
            Ok(Snapshot { module, memory, recording })
        })
    }

    /// Runs `wizer-initialize` of a copy of the module that a snapshot was taken of, and returns the memory. The same
    /// blocks are placed together.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub(super) fn memory_of_copy(
        &self,
        module: &[u8],
        snapshot: &Snapshot,
    ) -> anyhow::Result<Vec<u8>> {
        // A faster compiler that wasmtime does not recommend for production: no number that it computes is kept.
        let compiled = compile(module, RegallocAlgorithm::SinglePass)?;
        let input = input(&snapshot.recording, self.files);
        self.runtime.block_on(initialise(&compiled, input))?.memory()
    }
}

/// Compiles a module, or takes its code from the cache: other models, and other versions of this one, are baked into the
/// same module. The compiler does not optimise, which would take longer than the initialiser runs.
fn compile(module: &[u8], registers: RegallocAlgorithm) -> anyhow::Result<Module> {
    let mut config = Config::new();
    config.cranelift_opt_level(OptLevel::None).cranelift_regalloc_algorithm(registers);
    code_cache::load_module(&Engine::new(&config)?, module)
}

/// The initialiser's standard input: the recording of the first run, then the files, each preceded by its length.
fn input(recording: &[u8], files: &[Vec<u8>]) -> Vec<u8> {
    let blocks = std::iter::once(recording).chain(files.iter().map(Vec::as_slice));
    blocks.flat_map(|block| [&(block.len() as u64).to_le_bytes(), block].concat()).collect()
}

/// An instance as its initialiser left it.
struct Initialised {
    store: Store<WasiP1Ctx>,
    instance: Instance,
    /// What the initialiser wrote for the second run.
    recording: Vec<u8>,
}

impl Initialised {
    /// A copy of the memory.
    ///
    /// # Errors
    /// If the module does not export it.
    fn memory(&mut self) -> anyhow::Result<Vec<u8>> {
        let memory = self.instance.get_memory(&mut self.store, "memory");
        Ok(memory.context("the module does not export `memory`")?.data(&self.store).to_vec())
    }
}

// wasmtime-wizer has the same code behind its feature `wasmtime`, which also turns on wasmtime's own cache, and so
// the C library zstd.
impl InstanceState for Initialised {
    #[allow(
        clippy::panic,
        reason = "the trait asks for it where the instrumented module lacks a global"
    )]
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name);
        match global.map(|global| global.get(&mut self.store)) {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            Some(Val::V128(value)) => SnapshotVal::V128(value.as_u128()),
            other => panic!("the instrumented module exports {name} as {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        if let Some(memory) = self.instance.get_memory(&mut self.store, name) {
            contents(memory.data(&self.store));
        }
    }
}

/// Runs the initialiser in a fresh instance.
async fn initialise(module: &Module, input: Vec<u8>) -> anyhow::Result<Initialised> {
    let output = MemoryOutputPipe::new(MAX_RECORDING_BYTES);
    let mut wasi = WasiCtx::builder();
    // Both runs must see the same environment, so that they allocate the same blocks. So must every bake, so that it
    // produces the same bytes.
    wasi.inherit_stderr()
        .stdin(MemoryInputPipe::new(input))
        .stdout(output.clone())
        .secure_random(constant())
        .insecure_random(constant())
        .insecure_random_seed(0);
    let mut store = Store::new(module.engine(), wasi.build_p1());
    let mut linker: Linker<WasiP1Ctx> = Linker::new(module.engine());
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |context| context)?;
    // wasi:http is not available before the component serves.
    linker.define_unknown_imports_as_traps(module)?;
    let instance = linker.instantiate_async(&mut store, module).await?;
    ensure!(
        instance.get_func(&mut store, INITIALISER_EXPORT).is_some(),
        "the module does not export `{INITIALISER_EXPORT}`: it is not a function that can be baked"
    );
    for name in ["_initialize", INITIALISER_EXPORT] {
        let Some(function) = instance.get_func(&mut store, name) else { continue };
        let function = function.typed::<(), ()>(&store)?;
        function.call_async(&mut store, ()).await.map_err(|error| {
            match error.downcast_ref::<I32Exit>() {
                Some(exit) => anyhow!(
                    "the function's initialiser ended with status {}; the reason is above",
                    exit.0
                ),
                None => anyhow::Error::from(error).context("the function's initialiser failed"),
            }
        })?;
    }
    Ok(Initialised { store, instance, recording: output.contents().to_vec() })
}

fn constant() -> Deterministic {
    Deterministic::new(vec![0x5a])
}
