//! Provides a component's variables through `fermyon:spin/variables`, `spin:variables` and `wasi:config/store`.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Linker};

mod spin {
    wasmtime::component::bindgen!({
        inline: "
            package fermyon:spin@2.0.0;
            interface variables {
                get: func(name: string) -> result<string, error>;
                variant error {
                    invalid-name(string),
                    undefined(string),
                    provider(string),
                    other(string),
                }
            }
            world imports { import variables; }
        ",
    });
}

/// The interface of Spin 4, as in the WIT of its Rust SDK 7.0.0.
mod spin_3 {
    wasmtime::component::bindgen!({
        inline: "
            package spin:variables@3.0.0;
            interface variables {
                get: async func(name: string) -> result<string, error>;
                variant error {
                    invalid-name(string),
                    undefined(string),
                    provider(string),
                    other(string),
                }
            }
            world imports { import variables; }
        ",
    });
}

mod wasi {
    wasmtime::component::bindgen!({
        inline: "
            package wasi:config@0.2.0-rc.1;
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
                get-all: func() -> result<list<tuple<string, string>>, error>;
            }
            world imports { import store; }
        ",
    });
}

/// The same interface, as Spin 3 and 4 name it.
mod wasi_draft {
    wasmtime::component::bindgen!({
        inline: "
            package wasi:config@0.2.0-draft-2024-09-27;
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
                get-all: func() -> result<list<tuple<string, string>>, error>;
            }
            world imports { import store; }
        ",
    });
}

use spin::fermyon::spin::variables::{self, Error as SpinError};
use spin_3::spin::variables::variables::{self as variables_3, Error as Spin3Error};
use wasi::wasi::config::store;
use wasi_draft::wasi::config::store as draft_store;

use spotter_app::variables::{VALID_NAME, is_valid_name};

/// The values of one component's variables, by name.
#[derive(Clone)]
pub struct Variables(Arc<BTreeMap<String, String>>);

impl Variables {
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self(Arc::new(values))
    }

    fn get(&self, name: &str) -> Result<String, LookupError> {
        match self.0.get(name) {
            Some(value) => Ok(value.clone()),
            None if is_valid_name(name) => Err(LookupError::Undefined(name.to_owned())),
            None => Err(LookupError::InvalidName(format!("{name:?}: use {VALID_NAME}"))),
        }
    }
}

/// Why there is no value.
enum LookupError {
    InvalidName(String),
    Undefined(String),
}

/// Adds the interfaces to the linker. `host_getter` finds the variables in an instance's state.
///
/// # Errors
/// If the linker already has them.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host_getter: fn(&mut T) -> &mut Variables,
) -> anyhow::Result<()> {
    variables::add_to_linker::<T, HasSelf<Variables>>(linker, host_getter)?;
    variables_3::add_to_linker::<T, HasSelf<Variables>>(linker, host_getter)?;
    store::add_to_linker::<T, HasSelf<Variables>>(linker, host_getter)?;
    draft_store::add_to_linker::<T, HasSelf<Variables>>(linker, host_getter)?;
    Ok(())
}

impl variables::Host for Variables {
    fn get(&mut self, name: String) -> Result<String, SpinError> {
        Variables::get(self, &name).map_err(|missing| match missing {
            LookupError::InvalidName(text) => SpinError::InvalidName(text),
            LookupError::Undefined(name) => SpinError::Undefined(name),
        })
    }
}

impl variables_3::Host for Variables {}

impl<T> variables_3::HostWithStore<T> for HasSelf<Variables> {
    async fn get(store: &Accessor<T, Self>, name: String) -> Result<String, Spin3Error> {
        store.with(|mut view| view.get().get(&name)).map_err(|missing| match missing {
            LookupError::InvalidName(text) => Spin3Error::InvalidName(text),
            LookupError::Undefined(name) => Spin3Error::Undefined(name),
        })
    }
}

/// The same functions for each version of `wasi:config/store`.
macro_rules! config_store {
    ($interface:ident) => {
        impl $interface::Host for Variables {
            fn get(&mut self, key: String) -> Result<Option<String>, $interface::Error> {
                Ok(self.0.get(&key).cloned())
            }

            fn get_all(&mut self) -> Result<Vec<(String, String)>, $interface::Error> {
                Ok(self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
            }
        }
    };
}

config_store!(store);
config_store!(draft_store);
