//! Provides a component's variables through `fermyon:spin/variables` and `wasi:config/store`.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

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

use spin::fermyon::spin::variables::{self, Error as SpinError};
use wasi::wasi::config::store::{self, Error as ConfigError};

use spotter_app::variables::{VALID_NAME, is_valid_name};

/// The values of one component's variables, by name.
#[derive(Clone)]
pub(super) struct Variables(Arc<BTreeMap<String, String>>);

impl Variables {
    pub(super) fn new(values: BTreeMap<String, String>) -> Self {
        Self(Arc::new(values))
    }
}

/// Adds both interfaces to the linker. `of` finds the variables in an instance's state.
///
/// # Errors
/// If the linker already has them.
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    of: fn(&mut T) -> &mut Variables,
) -> anyhow::Result<()> {
    variables::add_to_linker::<T, HasSelf<Variables>>(linker, of)?;
    store::add_to_linker::<T, HasSelf<Variables>>(linker, of)?;
    Ok(())
}

impl variables::Host for Variables {
    fn get(&mut self, name: String) -> Result<String, SpinError> {
        match self.0.get(&name) {
            Some(value) => Ok(value.clone()),
            None if is_valid_name(&name) => Err(SpinError::Undefined(name)),
            None => Err(SpinError::InvalidName(format!("{name:?}: use {VALID_NAME}"))),
        }
    }
}

impl store::Host for Variables {
    fn get(&mut self, key: String) -> Result<Option<String>, ConfigError> {
        Ok(self.0.get(&key).cloned())
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, ConfigError> {
        Ok(self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
