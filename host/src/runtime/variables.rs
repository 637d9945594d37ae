//! Provides a component's variables through `fermyon:spin/variables` and `wasi:config/store`.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

use super::instance::InstanceState;

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

/// The values of one component's variables, by name.
pub(super) type Values = Arc<BTreeMap<String, String>>;

/// Adds both interfaces to the linker.
///
/// # Errors
/// If the linker already has them.
pub(super) fn add_to_linker(linker: &mut Linker<InstanceState>) -> anyhow::Result<()> {
    variables::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    store::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |state| state)?;
    Ok(())
}

impl variables::Host for InstanceState {
    fn get(&mut self, name: String) -> Result<String, SpinError> {
        self.variables().get(&name).cloned().ok_or(SpinError::Undefined(name))
    }
}

impl store::Host for InstanceState {
    fn get(&mut self, key: String) -> Result<Option<String>, ConfigError> {
        Ok(self.variables().get(&key).cloned())
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, ConfigError> {
        let values = self.variables();
        Ok(values.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}
