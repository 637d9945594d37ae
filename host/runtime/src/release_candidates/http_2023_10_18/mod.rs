//! `wasi:http@0.2.0-rc-2023-10-18`, the release candidate that Spin's Rust SDK 2 uses, and what it needs of `wasi:io`.
//!
//! Its resources are those of `wasi:http@0.2`, and its functions call those. Its WIT is in the crate spin-sdk 2.2.0.

mod convert;
mod requests;
mod responses;
mod streams;

use wasmtime::Result;
use wasmtime::component::Linker;

use super::http_resources::{self, HostGetter};

/// A value or an error, for the guest.
type Reply<T, E> = std::result::Result<T, E>;

/// Adds the interfaces to the linker.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host: HostGetter<T>,
) -> Result<()> {
    streams::add_poll(&mut linker.instance("wasi:io/poll@0.2.0-rc-2023-10-18")?, host)?;
    let mut streams = linker.instance("wasi:io/streams@0.2.0-rc-2023-10-18")?;
    streams::add_resources(&mut streams, host)?;
    streams::add_input_streams(&mut streams, host)?;
    streams::add_output_streams(&mut streams, host)?;
    let mut types = linker.instance("wasi:http/types@0.2.0-rc-2023-10-18")?;
    http_resources::add(&mut types, host)?;
    requests::add_fields(&mut types, host)?;
    requests::add_requests(&mut types, host)?;
    responses::add_responses(&mut types, host)?;
    responses::add_bodies(&mut types, host)?;
    let mut handler = linker.instance("wasi:http/outgoing-handler@0.2.0-rc-2023-10-18")?;
    requests::add_handler(&mut handler, host)
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;
    use wasmtime::component::{Component, Linker};

    use super::add_to_linker;

    #[test]
    fn every_function_has_the_type_of_the_candidate() {
        let component = wat::parse_str(include_str!("imports.wat")).unwrap();
        let engine = Engine::default();
        let component = Component::new(&engine, component).unwrap();
        let mut linker = Linker::<()>::new(&engine);
        assert!(linker.instantiate_pre(&component).is_err());
        add_to_linker(&mut linker, |()| unreachable!("nothing is called")).unwrap();
        linker.instantiate_pre(&component).unwrap();
    }
}
