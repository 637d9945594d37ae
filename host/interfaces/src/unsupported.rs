//! Links the interfaces of Spin that the host does not implement, so that components that import them can start. Each
//! of their functions returns the interface's own error.

use wasmtime::component::types::{self, ComponentItem};
use wasmtime::component::{
    Component, Linker, LinkerInstance, Resource, ResourceAny, ResourceType, Type, Val,
};
use wasmtime::{AsContextMut, Engine, StoreContextMut, bail};
use wasmtime_wasi::WasiView;

/// Interfaces without their versions, and what their errors say.
const UNSUPPORTED_INTERFACES: [(&str, &str); 3] = [
    ("fermyon:spin/llm", NO_LLM),
    ("fermyon:spin/mysql", NO_MYSQL),
    ("spin:mysql/mysql", NO_MYSQL),
];

const NO_LLM: &str = "this host runs no large language models; call a model server over HTTP, or run the \
                      application with Spin";
const NO_MYSQL: &str = "this host has no MySQL client; use SQLite or a key-value store, or run the application \
                        with Spin";

/// The cases of the interfaces' errors that hold a text, the most fitting first.
const ERROR_CASES: [&str; 3] = ["connection-failed", "runtime-error", "other"];

/// A resource of an unsupported interface, which can do nothing.
struct UnsupportedResource;

/// Adds those of a component's imports that the host does not implement.
///
/// # Errors
/// If the linker already has one of them.
pub fn add_to_linker<T: WasiView + 'static>(
    linker: &mut Linker<T>,
    engine: &Engine,
    component: &Component,
) -> anyhow::Result<()> {
    for (name, import) in component.component_type().imports(engine) {
        let interface = name.split('@').next().unwrap_or(name);
        let unsupported = UNSUPPORTED_INTERFACES.iter().find(|(own, _)| *own == interface);
        let (Some((_, reason)), ComponentItem::ComponentInstance(instance)) =
            (unsupported, import.ty)
        else {
            continue;
        };
        let mut linked = linker.instance(name)?;
        for (item, export) in instance.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(function) => {
                    add_failing_function(&mut linked, item, &function, reason)?;
                }
                ComponentItem::Resource(_) => add_resource(&mut linked, item)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn add_resource<T: WasiView + 'static>(
    linked: &mut LinkerInstance<'_, T>,
    name: &str,
) -> wasmtime::Result<()> {
    linked.resource(name, ResourceType::host::<UnsupportedResource>(), |mut store, handle| {
        store.data_mut().ctx().table.delete(Resource::<UnsupportedResource>::new_own(handle))?;
        Ok(())
    })
}

/// Defines a function that fails.
fn add_failing_function<T: WasiView + 'static>(
    linked: &mut LinkerInstance<'_, T>,
    name: &str,
    function: &types::ComponentFunc,
    reason: &'static str,
) -> wasmtime::Result<()> {
    if function.async_() {
        return linked.func_new_concurrent(name, move |accessor, function, arguments, results| {
            Box::pin(async move {
                accessor.with(|mut access| release(arguments, access.as_context_mut()))?;
                fail(&function, results, reason)
            })
        });
    }
    let is_constructor = name.starts_with("[constructor]");
    linked.func_new(name, move |mut store, function, arguments, results| {
        release(arguments, store.as_context_mut())?;
        if is_constructor {
            results[0] = Val::Resource(resource(store)?);
            return Ok(());
        }
        fail(&function, results, reason)
    })
}

/// Releases the resources among a call's arguments: a call must not end while it borrows any.
fn release<T: WasiView>(
    arguments: &[Val],
    mut store: StoreContextMut<'_, T>,
) -> wasmtime::Result<()> {
    for argument in arguments {
        let Val::Resource(resource) = argument else { continue };
        let resource = resource.try_into_resource::<UnsupportedResource>(&mut store)?;
        if resource.owned() {
            store.data_mut().ctx().table.delete(resource)?;
        }
    }
    Ok(())
}

/// A new resource. The limit on an instance's handles counts it too.
fn resource<T: WasiView>(mut store: StoreContextMut<'_, T>) -> wasmtime::Result<ResourceAny> {
    let resource = store.data_mut().ctx().table.push(UnsupportedResource)?;
    resource.try_into_resource_any(&mut store)
}

/// Sets a function's result to the error that says why it fails.
fn fail(
    function: &types::ComponentFunc,
    results: &mut [Val],
    reason: &str,
) -> wasmtime::Result<()> {
    let Some(case) = error_case(function) else { bail!("{reason}") };
    let error = Val::Variant(case.to_owned(), Some(Box::new(Val::String(reason.to_owned()))));
    results[0] = Val::Result(Err(Some(Box::new(error))));
    Ok(())
}

/// The case of a function's error that holds a text.
fn error_case(function: &types::ComponentFunc) -> Option<&'static str> {
    let Type::Result(result) = function.results().next()? else { return None };
    let Type::Variant(error) = result.err()? else { return None };
    let holds_text = |case: &&str| {
        error.cases().any(|own| own.name == *case && matches!(own.ty, Some(Type::String)))
    };
    ERROR_CASES.into_iter().find(holds_text)
}
