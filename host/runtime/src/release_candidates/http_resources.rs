//! The resources of `wasi:http/types`, for release candidates whose resources are those of 0.2.

use wasmtime::Result;
use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime_wasi_http::p2::bindings::http::types as released;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtxView};

use super::linker_functions::resources;

/// Finds what the interfaces need in an instance's state.
pub(super) type HostGetter<T> = fn(&mut T) -> WasiHttpCtxView<'_>;

/// Adds the resources to a candidate's instance of `types`.
pub(crate) fn add<T: Send + 'static>(
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
