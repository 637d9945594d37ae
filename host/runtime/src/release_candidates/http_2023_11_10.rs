//! `wasi:http/types@0.2.0-rc-2023-11-10`, an interface of the release candidate that differs from 0.2 in its types.
//!
//! Its resources are those of 0.2, and its functions call those. They differ in that timeouts are in milliseconds, and
//! that trailers can be taken more than once. Its WIT is in the crate wasmtime-wasi-http 15.0
//! (`wit/deps/http/types.wit`).

use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::IoError;
use wasmtime_wasi_http::p2::bindings::http::types::{
    self as released, ErrorCode, HeaderError, Method, Scheme,
};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::p2::{HeaderResult, HttpResult};
use wasmtime_wasi_http::{FieldMap, RequestOptions, WasiHttpCtxView};

use super::http_resources::{self, HostGetter};
use super::linker_functions::{functions, procedures, resources};

/// The interface's name.
const TYPES: &str = "wasi:http/types@0.2.0-rc-2023-11-10";

const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// A value or an error, for the guest.
type Reply<T, E> = std::result::Result<T, E>;

/// Adds the interface to the linker.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host: HostGetter<T>,
) -> Result<()> {
    let mut types = linker.instance(TYPES)?;
    http_resources::add(&mut types, host)?;
    add_fields(&mut types, host)?;
    add_incoming(&mut types, host)?;
    add_outgoing_requests(&mut types, host)?;
    add_outgoing_responses(&mut types, host)?;
    add_request_options(&mut types, host)
}

/// A header error is the guest's, any other one a trap.
fn header<T>(result: HeaderResult<T>) -> Result<Reply<T, HeaderError>> {
    result.map_or_else(|error| Ok(Err(error.downcast()?)), |value| Ok(Ok(value)))
}

/// An HTTP error is the guest's, any other one a trap.
fn http<T>(result: HttpResult<T>) -> Result<Reply<T, ErrorCode>> {
    result.map_or_else(|error| Ok(Err(error.downcast()?)), |value| Ok(Ok(value)))
}

/// The trailers, which the guest can take as often as it likes, or the error that came instead of them, which it can
/// take once.
fn take_trailers(
    http: &mut WasiHttpCtxView<'_>,
    trailers: Resource<HostFutureTrailers>,
) -> Result<Option<Reply<Option<Resource<FieldMap>>, ErrorCode>>> {
    if let HostFutureTrailers::Done(Ok(fields)) = http.table.get(&trailers)? {
        let Some(fields) = fields.clone() else { return Ok(Some(Ok(None))) };
        let fields = FieldMap::new_immutable(http.hooks, fields);
        return Ok(Some(Ok(Some(http.table.push(fields)?))));
    }
    match released::HostFutureTrailers::get(http, trailers)? {
        Some(Ok(error)) => Ok(Some(error)),
        Some(Err(())) => bail!("the error that came instead of the trailers has already been read"),
        None => Ok(None),
    }
}

/// A timeout of 0.2, which is in nanoseconds.
fn milliseconds(timeout: Result<Option<u64>>) -> Result<Option<u64>> {
    Ok(timeout?.map(|nanoseconds| nanoseconds / NANOSECONDS_PER_MILLISECOND))
}

fn nanoseconds(milliseconds: u64) -> u64 {
    milliseconds.saturating_mul(NANOSECONDS_PER_MILLISECOND)
}

fn add_fields<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    use released::{Host, HostFields as Fields};
    type Handle = Resource<FieldMap>;
    functions!(types, host:
        "http-error-code" => |http, error: Resource<IoError>| Host::http_error_code(http, error);
        "[constructor]fields" => |http| Fields::new(http);
        "[static]fields.from-list" => |http, entries: Vec<(String, Vec<u8>)>|
            header(Fields::from_list(http, entries));
        "[method]fields.get" => |http, fields: Handle, name: String| Fields::get(http, fields, name);
        "[method]fields.set" => |http, fields: Handle, name: String, values: Vec<Vec<u8>>|
            header(Fields::set(http, fields, name, values));
        "[method]fields.delete" => |http, fields: Handle, name: String|
            header(Fields::delete(http, fields, name));
        "[method]fields.append" => |http, fields: Handle, name: String, value: Vec<u8>|
            header(Fields::append(http, fields, name, value));
        "[method]fields.entries" => |http, fields: Handle| Fields::entries(http, fields);
        "[method]fields.clone" => |http, fields: Handle| Fields::clone(http, fields);
    );
    Ok(())
}

fn add_incoming<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    use released::{
        HostFutureIncomingResponse as FutureResponse, HostFutureTrailers as FutureTrailers,
        HostIncomingBody as Body, HostIncomingRequest as Request, HostIncomingResponse as Response,
    };
    functions!(types, host:
        "[method]incoming-request.method" => |http, request: Resource<HostIncomingRequest>|
            Request::method(http, request);
        "[method]incoming-request.path-with-query" => |http, request: Resource<HostIncomingRequest>|
            Request::path_with_query(http, request);
        "[method]incoming-request.scheme" => |http, request: Resource<HostIncomingRequest>|
            Request::scheme(http, request);
        "[method]incoming-request.authority" => |http, request: Resource<HostIncomingRequest>|
            Request::authority(http, request);
        "[method]incoming-request.headers" => |http, request: Resource<HostIncomingRequest>|
            Request::headers(http, request);
        "[method]incoming-request.consume" => |http, request: Resource<HostIncomingRequest>|
            Request::consume(http, request);
        "[method]incoming-response.status" => |http, response: Resource<HostIncomingResponse>|
            Response::status(http, response);
        "[method]incoming-response.headers" => |http, response: Resource<HostIncomingResponse>|
            Response::headers(http, response);
        "[method]incoming-response.consume" => |http, response: Resource<HostIncomingResponse>|
            Response::consume(http, response);
        "[method]future-incoming-response.subscribe" =>
            |http, response: Resource<HostFutureIncomingResponse>|
            FutureResponse::subscribe(http, response);
        "[method]future-incoming-response.get" =>
            |http, response: Resource<HostFutureIncomingResponse>|
            FutureResponse::get(http, response);
        "[method]incoming-body.stream" => |http, body: Resource<HostIncomingBody>|
            Body::stream(http, body);
        "[static]incoming-body.finish" => |http, body: Resource<HostIncomingBody>|
            Body::finish(http, body);
        "[method]future-trailers.subscribe" => |http, trailers: Resource<HostFutureTrailers>|
            FutureTrailers::subscribe(http, trailers);
        "[method]future-trailers.get" => |http, trailers: Resource<HostFutureTrailers>|
            take_trailers(http, trailers);
    );
    Ok(())
}

fn add_outgoing_requests<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    use released::HostOutgoingRequest as Request;
    functions!(types, host:
        "[constructor]outgoing-request" => |http, headers: Resource<FieldMap>|
            Request::new(http, headers);
        "[method]outgoing-request.body" => |http, request: Resource<HostOutgoingRequest>|
            Request::body(http, request);
        "[method]outgoing-request.method" => |http, request: Resource<HostOutgoingRequest>|
            Request::method(http, request);
        "[method]outgoing-request.set-method" =>
            |http, request: Resource<HostOutgoingRequest>, method: Method|
            Request::set_method(http, request, method);
        "[method]outgoing-request.path-with-query" => |http, request: Resource<HostOutgoingRequest>|
            Request::path_with_query(http, request);
        "[method]outgoing-request.set-path-with-query" =>
            |http, request: Resource<HostOutgoingRequest>, path: Option<String>|
            Request::set_path_with_query(http, request, path);
        "[method]outgoing-request.scheme" => |http, request: Resource<HostOutgoingRequest>|
            Request::scheme(http, request);
        "[method]outgoing-request.set-scheme" =>
            |http, request: Resource<HostOutgoingRequest>, scheme: Option<Scheme>|
            Request::set_scheme(http, request, scheme);
        "[method]outgoing-request.authority" => |http, request: Resource<HostOutgoingRequest>|
            Request::authority(http, request);
        "[method]outgoing-request.set-authority" =>
            |http, request: Resource<HostOutgoingRequest>, authority: Option<String>|
            Request::set_authority(http, request, authority);
        "[method]outgoing-request.headers" => |http, request: Resource<HostOutgoingRequest>|
            Request::headers(http, request);
    );
    Ok(())
}

fn add_outgoing_responses<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    use released::{
        HostOutgoingBody as Body, HostOutgoingResponse as Response,
        HostResponseOutparam as Outparam,
    };
    functions!(types, host:
        "[constructor]outgoing-response" => |http, headers: Resource<FieldMap>|
            Response::new(http, headers);
        "[method]outgoing-response.status-code" => |http, response: Resource<HostOutgoingResponse>|
            Response::status_code(http, response);
        "[method]outgoing-response.set-status-code" =>
            |http, response: Resource<HostOutgoingResponse>, status: u16|
            Response::set_status_code(http, response, status);
        "[method]outgoing-response.headers" => |http, response: Resource<HostOutgoingResponse>|
            Response::headers(http, response);
        "[method]outgoing-response.body" => |http, response: Resource<HostOutgoingResponse>|
            Response::body(http, response);
        "[method]outgoing-body.write" => |http, body: Resource<HostOutgoingBody>|
            Body::write(http, body);
        "[static]outgoing-body.finish" =>
            |host, body: Resource<HostOutgoingBody>, trailers: Option<Resource<FieldMap>>|
            http(Body::finish(host, body, trailers));
    );
    procedures!(types, host:
        "[static]response-outparam.set" =>
            |http, outparam: Resource<HostResponseOutparam>,
             response: Reply<Resource<HostOutgoingResponse>, ErrorCode>|
            Outparam::set(http, outparam, response);
    );
    Ok(())
}

fn add_request_options<T: Send + 'static>(
    types: &mut LinkerInstance<'_, T>,
    host: HostGetter<T>,
) -> Result<()> {
    use released::HostRequestOptions as Options;
    type Handle = Resource<RequestOptions>;
    resources!(types, host:
        "request-options" => RequestOptions, |http, it| Options::drop(http, it);
    );
    functions!(types, host:
        "[constructor]request-options" => |http| Options::new(http);
        "[method]request-options.connect-timeout-ms" => |http, options: Handle|
            milliseconds(Options::connect_timeout(http, options));
        "[method]request-options.set-connect-timeout-ms" => |http, options: Handle, time: Option<u64>|
            Options::set_connect_timeout(http, options, time.map(nanoseconds));
        "[method]request-options.first-byte-timeout-ms" => |http, options: Handle|
            milliseconds(Options::first_byte_timeout(http, options));
        "[method]request-options.set-first-byte-timeout-ms" =>
            |http, options: Handle, time: Option<u64>|
            Options::set_first_byte_timeout(http, options, time.map(nanoseconds));
        "[method]request-options.between-bytes-timeout-ms" => |http, options: Handle|
            milliseconds(Options::between_bytes_timeout(http, options));
        "[method]request-options.set-between-bytes-timeout-ms" =>
            |http, options: Handle, time: Option<u64>|
            Options::set_between_bytes_timeout(http, options, time.map(nanoseconds));
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;
    use wasmtime::component::{Component, Linker};

    use super::{add_to_linker, milliseconds, nanoseconds};

    #[test]
    fn timeouts_are_in_milliseconds() {
        assert_eq!(nanoseconds(2000), 2_000_000_000);
        assert_eq!(nanoseconds(u64::MAX), u64::MAX);
        assert_eq!(milliseconds(Ok(Some(1_999_999))).unwrap(), Some(1));
        assert_eq!(milliseconds(Ok(None)).unwrap(), None);
    }

    #[test]
    fn functions_that_the_release_lacks_have_the_types_of_the_candidate() {
        let component = wat::parse_str(
            r#"(component (import "wasi:http/types@0.2.0-rc-2023-11-10" (instance
                (export "request-options" (type $options (sub resource)))
                (export "[method]request-options.connect-timeout-ms"
                    (func (param "self" (borrow $options)) (result (option u64))))
                (export "[method]request-options.set-connect-timeout-ms"
                    (func (param "self" (borrow $options)) (param "ms" (option u64)) (result (result))))
                (export "outgoing-request" (type $request (sub resource)))
                (export "[method]outgoing-request.set-path-with-query"
                    (func (param "self" (borrow $request)) (param "path-with-query" (option string))
                        (result (result))))
            )))"#,
        );
        let engine = Engine::default();
        let component = Component::new(&engine, component.unwrap()).unwrap();
        let mut linker = Linker::<()>::new(&engine);
        assert!(linker.instantiate_pre(&component).is_err());
        add_to_linker(&mut linker, |()| unreachable!("nothing is called")).unwrap();
        linker.instantiate_pre(&component).unwrap();
    }
}
