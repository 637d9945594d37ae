//! Fields and requests. Where 0.2 returns an error that the release candidate has no room for, the guest traps.

use wasmtime::component::{LinkerInstance, Resource};
use wasmtime::{Result, format_err};
use wasmtime_wasi_http::p2::HeaderResult;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as Handler;
use wasmtime_wasi_http::p2::bindings::http::types::{
    HostFields as Fields, HostIncomingRequest as Incoming, HostOutgoingRequest as Outgoing, Method,
    Scheme,
};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostOutgoingRequest,
};
use wasmtime_wasi_http::{FieldMap, RequestOptions as ReleasedOptions, WasiHttpCtxView};

use super::convert::{Error, RequestOptions};
use super::{HostGetter, Reply};
use crate::release_candidates::linker_functions::{functions, procedures};

/// The candidate's fields have no errors: the guest traps.
fn trap<T>(result: HeaderResult<T>) -> Result<T> {
    result.map_err(|error| match error.downcast() {
        Ok(reason) => format_err!("invalid headers: {reason:?}"),
        Err(trap) => trap,
    })
}

pub(super) fn add_fields<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    type Handle = Resource<FieldMap>;
    functions!(types, host:
        "[constructor]fields" => |http, entries: Vec<(String, Vec<u8>)>|
            trap(Fields::from_list(http, entries));
        "[method]fields.get" => |http, fields: Handle, name: String| Fields::get(http, fields, name);
        "[method]fields.entries" => |http, fields: Handle| Fields::entries(http, fields);
        "[method]fields.clone" => |http, fields: Handle| Fields::clone(http, fields);
    );
    procedures!(types, host:
        "[method]fields.set" => |http, fields: Handle, name: String, values: Vec<Vec<u8>>|
            trap(Fields::set(http, fields, name, values));
        "[method]fields.delete" => |http, fields: Handle, name: String|
            trap(Fields::delete(http, fields, name));
        "[method]fields.append" => |http, fields: Handle, name: String, value: Vec<u8>|
            trap(Fields::append(http, fields, name, value));
    );
    Ok(())
}

pub(super) fn add_requests<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    functions!(types, host:
        "[method]incoming-request.method" => |http, request: Resource<HostIncomingRequest>|
            Incoming::method(http, request);
        "[method]incoming-request.path-with-query" => |http, request: Resource<HostIncomingRequest>|
            Incoming::path_with_query(http, request);
        "[method]incoming-request.scheme" => |http, request: Resource<HostIncomingRequest>|
            Incoming::scheme(http, request);
        "[method]incoming-request.authority" => |http, request: Resource<HostIncomingRequest>|
            Incoming::authority(http, request);
        "[method]incoming-request.headers" => |http, request: Resource<HostIncomingRequest>|
            Incoming::headers(http, request);
        "[method]incoming-request.consume" => |http, request: Resource<HostIncomingRequest>|
            Incoming::consume(http, request);
        "[constructor]outgoing-request" =>
            |http, method: Method, path: Option<String>, scheme: Option<Scheme>,
             authority: Option<String>, headers: Resource<FieldMap>|
            outgoing_request(http, method, path, scheme, authority, headers);
        "[method]outgoing-request.write" => |http, request: Resource<HostOutgoingRequest>|
            Outgoing::body(http, request);
    );
    Ok(())
}

fn outgoing_request(
    http: &mut WasiHttpCtxView<'_>,
    method: Method,
    path_with_query: Option<String>,
    scheme: Option<Scheme>,
    authority: Option<String>,
    headers: Resource<FieldMap>,
) -> Result<Resource<HostOutgoingRequest>> {
    // 0.2 needs an authority. Later SDKs add this one to a URL without a host.
    let authority = authority.unwrap_or_else(|| match &scheme {
        Some(Scheme::Http | Scheme::Other(_)) => ":80".to_owned(),
        Some(Scheme::Https) | None => ":443".to_owned(),
    });
    // 0.2 takes the headers, which are only borrowed here.
    let headers = Fields::clone(http, headers)?;
    let request = Outgoing::new(http, headers)?;
    let own = || Resource::new_borrow(request.rep());
    let invalid = |what: &str| format_err!("the {what} of an outgoing request is invalid");
    Outgoing::set_method(http, own(), method)?.map_err(|()| invalid("method"))?;
    Outgoing::set_path_with_query(http, own(), path_with_query)?.map_err(|()| invalid("path"))?;
    Outgoing::set_scheme(http, own(), scheme)?.map_err(|()| invalid("scheme"))?;
    Outgoing::set_authority(http, own(), Some(authority))?.map_err(|()| invalid("authority"))?;
    Ok(request)
}

pub(super) fn add_handler<T: Send + 'static>(
    handler: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    functions!(handler, host:
        "handle" => |http, request: Resource<HostOutgoingRequest>, options: Option<RequestOptions>|
            handle(http, request, options);
    );
    Ok(())
}

fn handle(
    http: &mut WasiHttpCtxView<'_>,
    request: Resource<HostOutgoingRequest>,
    options: Option<RequestOptions>,
) -> Result<Reply<Resource<HostFutureIncomingResponse>, Error>> {
    let options = options.map(|options| http.table.push(ReleasedOptions::from(options)));
    let options = options.transpose()?;
    let borrowed = options.as_ref().map(|options| Resource::new_borrow(options.rep()));
    let sent = Handler::handle(http, request, borrowed);
    if let Some(options) = options {
        http.table.delete(options)?;
    }
    match sent {
        Ok(response) => Ok(Ok(response)),
        // A trap is passed on.
        Err(error) => Ok(Err(error.downcast()?.into())),
    }
}
