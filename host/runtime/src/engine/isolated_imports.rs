//! Links the interfaces of isolated dependencies (`compile/dependency_isolation.rs` names them): they are empty, or deny
//! every call.

use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Linker, Type, Val};
use wasmtime::{Engine, bail};

use spotter_app::check::ISOLATED_PACKAGE;

/// Adds the isolated interfaces that a component imports.
///
/// # Errors
/// If the linker already has one of them.
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    engine: &Engine,
    component: &Component,
) -> anyhow::Result<()> {
    for (name, import) in component.component_type().imports(engine) {
        let is_isolated = name.split('/').next() == Some(ISOLATED_PACKAGE);
        let (true, ComponentItem::ComponentInstance(instance)) = (is_isolated, import.ty) else {
            continue;
        };
        let mut linked = linker.instance(name)?;
        for (item, export) in instance.exports(engine) {
            if let ComponentItem::ComponentFunc(_) = export.ty {
                linked
                    .func_new(item, |_, function, _, results| give_nothing(&function, results))?;
            }
        }
    }
    Ok(())
}

/// Sets a function's result to an empty value, or to the error that says that access is denied.
fn give_nothing(function: &ComponentFunc, results: &mut [Val]) -> wasmtime::Result<()> {
    for (result, kind) in results.iter_mut().zip(function.results()) {
        *result = match kind {
            Type::List(_) => Val::List(Vec::new()),
            Type::Option(_) => Val::Option(None),
            Type::Result(_) => {
                Val::Result(Err(Some(Box::new(Val::Enum("access-denied".to_owned())))))
            }
            _ => bail!(
                "a dependency that does not inherit its component's configuration cannot call this"
            ),
        };
    }
    Ok(())
}
