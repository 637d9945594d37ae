//! Composes a component with its dependencies: each dependency provides some of the component's imports, and the result
//! is one component.

use std::fs;

use anyhow::{Context, bail, ensure};
use wac_graph::types::{Package, SubtypeChecker, WorldId};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};
use wasmparser::Parser;

use super::wrap::{Adapter, wrap};
use super::{dependency_isolation, rename_interfaces};
use spotter_app::dependencies::Dependency;

/// Reads a dependency: a component, wrapped if it is a core module, with its release's names if it is of a release
/// candidate, and isolated unless it inherits the component's configuration.
///
/// # Errors
/// If it cannot be read or is not a component, or needs configuration that it does not inherit.
pub(crate) fn read(dependency: &Dependency) -> anyhow::Result<Vec<u8>> {
    let path = dependency.source.display();
    let context = || format!("the dependency `{}` ({path})", dependency.name);
    let bytes = fs::read(&dependency.source).with_context(context)?;
    let bytes = if Parser::is_core_wasm(&bytes) {
        wrap(&bytes, Adapter::Reactor).with_context(context)?
    } else {
        bytes
    };
    // It is not WebAssembly at all, if this fails.
    let renamed = rename_interfaces::to_release(&bytes).with_context(context)?;
    let bytes = renamed.unwrap_or(bytes);
    if dependency.inherits {
        Ok(bytes)
    } else {
        dependency_isolation::isolate(bytes).with_context(context)
    }
}

/// The component with its dependencies, each with its bytes.
///
/// # Errors
/// If a dependency provides no import, or not what the import needs, or several provide the same.
pub(super) fn compose(
    component: &[u8],
    dependencies: &[(&Dependency, Vec<u8>)],
) -> anyhow::Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let (world, instance) = instantiate(&mut graph, "the-component", component)?;
    let imports: Vec<String> = graph.types()[world].imports.keys().cloned().collect();
    let mut provided: Vec<&str> = Vec::new();
    for (number, (dependency, bytes)) in dependencies.iter().enumerate() {
        let name = &dependency.name;
        let matching: Vec<&str> = imports
            .iter()
            .map(String::as_str)
            .filter(|import| dependency.provides(import))
            .collect();
        ensure!(
            !matching.is_empty(),
            "the dependency `{name}` exports nothing that the component imports; the component's imports are: {}",
            imports.join(", ")
        );
        if let Some(twice) = matching.iter().find(|import| provided.contains(import)) {
            bail!(
                "the dependency `{name}` provides `{twice}`, which another dependency already provides; remove one"
            );
        }
        let (own_world, own_instance) =
            instantiate(&mut graph, &format!("dependency-{number}"), bytes)
                .with_context(|| format!("the dependency `{name}`"))?;
        for import in &matching {
            let export = dependency.export.as_deref().unwrap_or(import);
            let found = Provided { world, import, own_world, export };
            found.check(&graph).with_context(|| format!("the dependency `{name}`"))?;
            let export = graph.alias_instance_export(own_instance, export)?;
            graph.set_instantiation_argument(instance, import, export)?;
        }
        provided.extend(matching);
    }
    let exports: Vec<String> = graph.types()[world].exports.keys().cloned().collect();
    for export in exports {
        let node = graph.alias_instance_export(instance, &export)?;
        graph.export(node, &export)?;
    }
    graph
        .encode(EncodeOptions::default())
        .context("the component and its dependencies do not fit together")
}

fn instantiate(
    graph: &mut CompositionGraph,
    name: &str,
    bytes: &[u8],
) -> anyhow::Result<(WorldId, NodeId)> {
    let package = Package::from_bytes(name, None, bytes, graph.types_mut())?;
    let world = package.ty();
    let package = graph.register_package(package)?;
    Ok((world, graph.instantiate(package)))
}

/// An import, and the export that is to provide it.
struct Provided<'a> {
    world: WorldId,
    import: &'a str,
    own_world: WorldId,
    export: &'a str,
}

impl Provided<'_> {
    /// Checks that the export has the import's type.
    fn check(&self, graph: &CompositionGraph) -> anyhow::Result<()> {
        let types = graph.types();
        let Self { import, export, .. } = self;
        let exports = &types[self.own_world].exports;
        let provided = exports.get(*export).with_context(|| {
            let all: Vec<&str> = exports.keys().map(String::as_str).collect();
            format!(
                "it does not export `{export}`, which would provide `{import}`; its exports: {}",
                all.join(", ")
            )
        })?;
        let Some(needed) = types[self.world].imports.get(*import) else { return Ok(()) };
        let mut cache = std::collections::HashSet::new();
        SubtypeChecker::new(&mut cache).is_subtype(*provided, types, *needed, types).with_context(
            || format!("its export `{export}` is not what the import `{import}` needs"),
        )
    }
}
