//! Responses and bodies. Where 0.2 returns an error that the release candidate has no room for, the guest traps.

use wasmtime::component::{LinkerInstance, Resource};
use wasmtime::{Result, bail, format_err};
use wasmtime_wasi_http::p2::bindings::http::types::{
    ErrorCode, HostFields as Fields, HostFutureIncomingResponse as FutureResponse,
    HostFutureTrailers as FutureTrailers, HostIncomingBody as IncomingBody,
    HostIncomingResponse as Incoming, HostOutgoingBody as OutgoingBody,
    HostOutgoingResponse as Outgoing, HostResponseOutparam as Outparam,
};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtxView};

use super::convert::Error;
use super::{HostGetter, Reply};
use crate::release_candidates::linker_functions::{functions, procedures};

pub(super) fn add_responses<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    functions!(types, host:
        "[method]incoming-response.status" => |http, response: Resource<HostIncomingResponse>|
            Incoming::status(http, response);
        "[method]incoming-response.headers" => |http, response: Resource<HostIncomingResponse>|
            Incoming::headers(http, response);
        "[method]incoming-response.consume" => |http, response: Resource<HostIncomingResponse>|
            Incoming::consume(http, response);
        "[method]future-incoming-response.get" =>
            |http, response: Resource<HostFutureIncomingResponse>|
            take_response(http, response);
        "[method]future-incoming-response.subscribe" =>
            |http, response: Resource<HostFutureIncomingResponse>|
            FutureResponse::subscribe(http, response);
        "[constructor]outgoing-response" => |http, status: u16, headers: Resource<FieldMap>|
            outgoing_response(http, status, headers);
        "[method]outgoing-response.write" => |http, response: Resource<HostOutgoingResponse>|
            Outgoing::body(http, response);
    );
    procedures!(types, host:
        "[static]response-outparam.set" =>
            |http, outparam: Resource<HostResponseOutparam>,
             response: Reply<Resource<HostOutgoingResponse>, Error>|
            Outparam::set(http, outparam, response.map_err(ErrorCode::from));
    );
    Ok(())
}

/// What a guest can take of a response that it waits for: nothing yet, nothing any more, or the response or its error.
type TakenResponse = Option<Reply<Reply<Resource<HostIncomingResponse>, Error>, ()>>;

fn take_response(
    http: &mut WasiHttpCtxView<'_>,
    response: Resource<HostFutureIncomingResponse>,
) -> Result<TakenResponse> {
    let response = FutureResponse::get(http, response)?;
    Ok(response.map(|taken| taken.map(|response| response.map_err(Error::from))))
}

fn outgoing_response(
    http: &mut WasiHttpCtxView<'_>,
    status: u16,
    headers: Resource<FieldMap>,
) -> Result<Resource<HostOutgoingResponse>> {
    // 0.2 takes the headers, which are only borrowed here.
    let headers = Fields::clone(http, headers)?;
    let response = Outgoing::new(http, headers)?;
    let own = Resource::new_borrow(response.rep());
    let is_set = Outgoing::set_status_code(http, own, status)?;
    is_set.map_err(|()| format_err!("{status} is not a valid status for a reply"))?;
    Ok(response)
}

pub(super) fn add_bodies<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    functions!(types, host:
        "[method]incoming-body.stream" => |http, body: Resource<HostIncomingBody>|
            IncomingBody::stream(http, body);
        "[static]incoming-body.finish" => |http, body: Resource<HostIncomingBody>|
            IncomingBody::finish(http, body);
        "[method]future-trailers.subscribe" => |http, trailers: Resource<HostFutureTrailers>|
            FutureTrailers::subscribe(http, trailers);
        "[method]future-trailers.get" => |http, trailers: Resource<HostFutureTrailers>|
            take_trailers(http, trailers);
        "[method]outgoing-body.write" => |http, body: Resource<HostOutgoingBody>|
            OutgoingBody::write(http, body);
    );
    procedures!(types, host:
        "[static]outgoing-body.finish" =>
            |http, body: Resource<HostOutgoingBody>, trailers: Option<Resource<FieldMap>>|
            finish(http, body, trailers);
    );
    Ok(())
}

fn take_trailers(
    http: &mut WasiHttpCtxView<'_>,
    trailers: Resource<HostFutureTrailers>,
) -> Result<Option<Reply<Resource<FieldMap>, Error>>> {
    Ok(match FutureTrailers::get(http, trailers)? {
        None => None,
        Some(Ok(Ok(Some(fields)))) => Some(Ok(fields)),
        Some(Ok(Ok(None))) => Some(Ok(Fields::new(http)?)),
        Some(Ok(Err(code))) => Some(Err(code.into())),
        Some(Err(())) => bail!("the trailers have already been read"),
    })
}

fn finish(
    http: &mut WasiHttpCtxView<'_>,
    body: Resource<HostOutgoingBody>,
    trailers: Option<Resource<FieldMap>>,
) -> Result<()> {
    let finished = OutgoingBody::finish(http, body, trailers);
    finished.map_err(|error| error.downcast().map_or_else(|trap| trap, wasmtime::Error::from))
}
