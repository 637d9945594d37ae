//! Macros that define an interface in a linker, one function or resource in each line. They are for interfaces that
//! wasmtime has no bindings for, and whose functions call those of another interface.

/// Defines functions, each by its name, its parameters, and an expression of the type `Result<T>`: what the guest gets,
/// or a trap.
macro_rules! functions {
    ($instance:ident, $host:ident: $(
        $name:literal => |$state:ident $(, $parameter:ident: $type:ty)*| $call:expr;
    )*) => {
        $($instance.func_wrap($name, move |mut store, ($($parameter,)*): ($($type,)*)| {
            let $state = &mut $host(store.data_mut());
            Ok(($call?,))
        })?;)*
    };
}

/// Defines functions that wait.
macro_rules! async_functions {
    ($instance:ident, $host:ident: $(
        $name:literal => |$state:ident $(, $parameter:ident: $type:ty)*| $call:expr;
    )*) => {
        $($instance.func_wrap_async($name, move |mut store, ($($parameter,)*): ($($type,)*)| {
            Box::new(async move {
                let $state = &mut $host(store.data_mut());
                Ok(($call?,))
            })
        })?;)*
    };
}

/// Defines functions that return nothing.
macro_rules! procedures {
    ($instance:ident, $host:ident: $(
        $name:literal => |$state:ident $(, $parameter:ident: $type:ty)*| $call:expr;
    )*) => {
        $($instance.func_wrap($name, move |mut store, ($($parameter,)*): ($($type,)*)| {
            let $state = &mut $host(store.data_mut());
            $call
        })?;)*
    };
}

/// Defines resources, each by its name, the host's type, and the expression that drops one.
macro_rules! resources {
    ($instance:ident, $host:ident: $($name:literal => $type:ty, |$state:ident, $it:ident| $drop:expr;)*) => {
        $($instance.resource($name, ResourceType::host::<$type>(), move |mut store, rep| {
            let ($state, $it) = (&mut $host(store.data_mut()), Resource::<$type>::new_own(rep));
            $drop
        })?;)*
    };
}

pub(crate) use {async_functions, functions, procedures, resources};
