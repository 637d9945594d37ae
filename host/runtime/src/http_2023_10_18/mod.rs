//! `wasi:http@0.2.0-rc-2023-10-18`, the release candidate that Spin's Rust SDK 2 uses, and what it needs of `wasi:io`.
//!
//! Its resources are those of `wasi:http@0.2`, and its functions call those. Its WIT is in the crate spin-sdk 2.2.0.

mod convert;
mod requests;
mod responses;
mod streams;

use wasmtime::Result;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi_http::p2::bindings::http::types as released;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtxView};

use super::linker_functions::resources;

/// Finds what the interfaces need in an instance's state.
type HostGetter<T> = fn(&mut T) -> WasiHttpCtxView<'_>;

/// A value or an error, for the guest.
type Reply<T, E> = std::result::Result<T, E>;

/// Adds the interfaces to the linker.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host: HostGetter<T>,
) -> Result<()> {
    streams::add_poll(&mut linker.instance("wasi:io/poll@0.2.0-rc-2023-10-18")?, host)?;
    let mut streams = linker.instance("wasi:io/streams@0.2.0-rc-2023-10-18")?;
    streams::add_resources(&mut streams, host)?;
    streams::add_input_streams(&mut streams, host)?;
    streams::add_output_streams(&mut streams, host)?;
    let mut types = linker.instance("wasi:http/types@0.2.0-rc-2023-10-18")?;
    add_resources(&mut types, host)?;
    requests::add_fields(&mut types, host)?;
    requests::add_requests(&mut types, host)?;
    responses::add_responses(&mut types, host)?;
    responses::add_bodies(&mut types, host)?;
    let mut handler = linker.instance("wasi:http/outgoing-handler@0.2.0-rc-2023-10-18")?;
    requests::add_handler(&mut handler, host)
}

fn add_resources<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    resources!(types, host:
        "fields" => FieldMap, |http, it| released::HostFields::drop(http, it);
        "incoming-request" => HostIncomingRequest,
            |http, it| released::HostIncomingRequest::drop(http, it);
        "outgoing-request" => HostOutgoingRequest,
            |http, it| released::HostOutgoingRequest::drop(http, it);
        "response-outparam" => HostResponseOutparam,
            |http, it| released::HostResponseOutparam::drop(http, it);
        "incoming-response" => HostIncomingResponse,
            |http, it| released::HostIncomingResponse::drop(http, it);
        "incoming-body" => HostIncomingBody, |http, it| released::HostIncomingBody::drop(http, it);
        "future-trailers" => HostFutureTrailers,
            |http, it| released::HostFutureTrailers::drop(http, it);
        "outgoing-response" => HostOutgoingResponse,
            |http, it| released::HostOutgoingResponse::drop(http, it);
        "outgoing-body" => HostOutgoingBody, |http, it| released::HostOutgoingBody::drop(http, it);
        "future-incoming-response" => HostFutureIncomingResponse,
            |http, it| released::HostFutureIncomingResponse::drop(http, it);
    );
    Ok(())
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
