//! Requests and replies. Where 0.2 returns an error that the release candidate has no room for, the guest traps.

use wasmtime::component::Resource;
use wasmtime::{Result, bail, format_err};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_http::p2::HeaderResult;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types as released};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtxView};

use super::bindings::wasi::http::outgoing_handler::Host as HandlerHost;
use super::bindings::wasi::http::types::{self, Error, Method, RequestOptions, Scheme};

/// The candidate's fields have no errors: the guest traps.
fn trap<T>(result: HeaderResult<T>) -> Result<T> {
    result.map_err(|error| match error.downcast() {
        Ok(reason) => format_err!("invalid headers: {reason:?}"),
        Err(trap) => trap,
    })
}

impl types::Host for WasiHttpCtxView<'_> {}

impl types::HostFields for WasiHttpCtxView<'_> {
    async fn new(&mut self, entries: Vec<(String, Vec<u8>)>) -> Result<Resource<FieldMap>> {
        trap(released::HostFields::from_list(self, entries))
    }

    async fn get(&mut self, fields: Resource<FieldMap>, name: String) -> Result<Vec<Vec<u8>>> {
        released::HostFields::get(self, fields, name)
    }

    async fn set(
        &mut self,
        fields: Resource<FieldMap>,
        name: String,
        values: Vec<Vec<u8>>,
    ) -> Result<()> {
        trap(released::HostFields::set(self, fields, name, values))
    }

    async fn delete(&mut self, fields: Resource<FieldMap>, name: String) -> Result<()> {
        trap(released::HostFields::delete(self, fields, name))
    }

    async fn append(
        &mut self,
        fields: Resource<FieldMap>,
        name: String,
        value: Vec<u8>,
    ) -> Result<()> {
        trap(released::HostFields::append(self, fields, name, value))
    }

    async fn entries(&mut self, fields: Resource<FieldMap>) -> Result<Vec<(String, Vec<u8>)>> {
        released::HostFields::entries(self, fields)
    }

    async fn clone(&mut self, fields: Resource<FieldMap>) -> Result<Resource<FieldMap>> {
        released::HostFields::clone(self, fields)
    }

    async fn drop(&mut self, fields: Resource<FieldMap>) -> Result<()> {
        released::HostFields::drop(self, fields)
    }
}

impl types::HostIncomingRequest for WasiHttpCtxView<'_> {
    async fn method(&mut self, request: Resource<HostIncomingRequest>) -> Result<Method> {
        Ok(released::HostIncomingRequest::method(self, request)?.into())
    }

    async fn path_with_query(
        &mut self,
        request: Resource<HostIncomingRequest>,
    ) -> Result<Option<String>> {
        released::HostIncomingRequest::path_with_query(self, request)
    }

    async fn scheme(&mut self, request: Resource<HostIncomingRequest>) -> Result<Option<Scheme>> {
        Ok(released::HostIncomingRequest::scheme(self, request)?.map(Scheme::from))
    }

    async fn authority(
        &mut self,
        request: Resource<HostIncomingRequest>,
    ) -> Result<Option<String>> {
        released::HostIncomingRequest::authority(self, request)
    }

    async fn headers(
        &mut self,
        request: Resource<HostIncomingRequest>,
    ) -> Result<Resource<FieldMap>> {
        released::HostIncomingRequest::headers(self, request)
    }

    async fn consume(
        &mut self,
        request: Resource<HostIncomingRequest>,
    ) -> Result<std::result::Result<Resource<HostIncomingBody>, ()>> {
        released::HostIncomingRequest::consume(self, request)
    }

    async fn drop(&mut self, request: Resource<HostIncomingRequest>) -> Result<()> {
        released::HostIncomingRequest::drop(self, request)
    }
}

impl types::HostOutgoingRequest for WasiHttpCtxView<'_> {
    async fn new(
        &mut self,
        method: Method,
        path_with_query: Option<String>,
        scheme: Option<Scheme>,
        authority: Option<String>,
        headers: Resource<FieldMap>,
    ) -> Result<Resource<HostOutgoingRequest>> {
        use released::HostOutgoingRequest as Released;
        // 0.2 needs an authority. Later SDKs add this one to a URL without a host.
        let authority = authority.unwrap_or_else(|| match &scheme {
            Some(Scheme::Http | Scheme::Other(_)) => ":80".to_owned(),
            Some(Scheme::Https) | None => ":443".to_owned(),
        });
        // 0.2 takes the headers, which are only borrowed here.
        let headers = released::HostFields::clone(self, headers)?;
        let request = Released::new(self, headers)?;
        let own = || Resource::new_borrow(request.rep());
        let invalid = |what: &str| format_err!("the {what} of an outgoing request is invalid");
        Released::set_method(self, own(), method.into())?.map_err(|()| invalid("method"))?;
        Released::set_path_with_query(self, own(), path_with_query)?
            .map_err(|()| invalid("path"))?;
        Released::set_scheme(self, own(), scheme.map(released::Scheme::from))?
            .map_err(|()| invalid("scheme"))?;
        Released::set_authority(self, own(), Some(authority))?
            .map_err(|()| invalid("authority"))?;
        Ok(request)
    }

    async fn write(
        &mut self,
        request: Resource<HostOutgoingRequest>,
    ) -> Result<std::result::Result<Resource<HostOutgoingBody>, ()>> {
        released::HostOutgoingRequest::body(self, request)
    }

    async fn drop(&mut self, request: Resource<HostOutgoingRequest>) -> Result<()> {
        released::HostOutgoingRequest::drop(self, request)
    }
}

impl types::HostResponseOutparam for WasiHttpCtxView<'_> {
    async fn set(
        &mut self,
        outparam: Resource<HostResponseOutparam>,
        response: std::result::Result<Resource<HostOutgoingResponse>, Error>,
    ) -> Result<()> {
        let response = response.map_err(released::ErrorCode::from);
        released::HostResponseOutparam::set(self, outparam, response)
    }

    async fn drop(&mut self, outparam: Resource<HostResponseOutparam>) -> Result<()> {
        released::HostResponseOutparam::drop(self, outparam)
    }
}

impl types::HostIncomingResponse for WasiHttpCtxView<'_> {
    async fn status(&mut self, response: Resource<HostIncomingResponse>) -> Result<u16> {
        released::HostIncomingResponse::status(self, response)
    }

    async fn headers(
        &mut self,
        response: Resource<HostIncomingResponse>,
    ) -> Result<Resource<FieldMap>> {
        released::HostIncomingResponse::headers(self, response)
    }

    async fn consume(
        &mut self,
        response: Resource<HostIncomingResponse>,
    ) -> Result<std::result::Result<Resource<HostIncomingBody>, ()>> {
        released::HostIncomingResponse::consume(self, response)
    }

    async fn drop(&mut self, response: Resource<HostIncomingResponse>) -> Result<()> {
        released::HostIncomingResponse::drop(self, response)
    }
}

impl types::HostIncomingBody for WasiHttpCtxView<'_> {
    async fn stream(
        &mut self,
        body: Resource<HostIncomingBody>,
    ) -> Result<std::result::Result<Resource<DynInputStream>, ()>> {
        released::HostIncomingBody::stream(self, body)
    }

    async fn finish(
        &mut self,
        body: Resource<HostIncomingBody>,
    ) -> Result<Resource<HostFutureTrailers>> {
        released::HostIncomingBody::finish(self, body)
    }

    async fn drop(&mut self, body: Resource<HostIncomingBody>) -> Result<()> {
        released::HostIncomingBody::drop(self, body)
    }
}

impl types::HostFutureTrailers for WasiHttpCtxView<'_> {
    async fn subscribe(
        &mut self,
        trailers: Resource<HostFutureTrailers>,
    ) -> Result<Resource<DynPollable>> {
        released::HostFutureTrailers::subscribe(self, trailers)
    }

    async fn get(
        &mut self,
        trailers: Resource<HostFutureTrailers>,
    ) -> Result<Option<std::result::Result<Resource<FieldMap>, Error>>> {
        Ok(match released::HostFutureTrailers::get(self, trailers)? {
            None => None,
            Some(Ok(Ok(Some(fields)))) => Some(Ok(fields)),
            Some(Ok(Ok(None))) => Some(Ok(released::HostFields::new(self)?)),
            Some(Ok(Err(code))) => Some(Err(code.into())),
            Some(Err(())) => bail!("the trailers were taken before"),
        })
    }

    async fn drop(&mut self, trailers: Resource<HostFutureTrailers>) -> Result<()> {
        released::HostFutureTrailers::drop(self, trailers)
    }
}

impl types::HostOutgoingResponse for WasiHttpCtxView<'_> {
    async fn new(
        &mut self,
        status: u16,
        headers: Resource<FieldMap>,
    ) -> Result<Resource<HostOutgoingResponse>> {
        use released::HostOutgoingResponse as Released;
        let headers = released::HostFields::clone(self, headers)?;
        let response = Released::new(self, headers)?;
        let own = Resource::new_borrow(response.rep());
        Released::set_status_code(self, own, status)?
            .map_err(|()| format_err!("a reply has no status {status}"))?;
        Ok(response)
    }

    async fn write(
        &mut self,
        response: Resource<HostOutgoingResponse>,
    ) -> Result<std::result::Result<Resource<HostOutgoingBody>, ()>> {
        released::HostOutgoingResponse::body(self, response)
    }

    async fn drop(&mut self, response: Resource<HostOutgoingResponse>) -> Result<()> {
        released::HostOutgoingResponse::drop(self, response)
    }
}

impl types::HostOutgoingBody for WasiHttpCtxView<'_> {
    async fn write(
        &mut self,
        body: Resource<HostOutgoingBody>,
    ) -> Result<std::result::Result<Resource<DynOutputStream>, ()>> {
        released::HostOutgoingBody::write(self, body)
    }

    async fn finish(
        &mut self,
        body: Resource<HostOutgoingBody>,
        trailers: Option<Resource<FieldMap>>,
    ) -> Result<()> {
        let finished = released::HostOutgoingBody::finish(self, body, trailers);
        finished.map_err(|error| error.downcast().map_or_else(|trap| trap, wasmtime::Error::from))
    }

    async fn drop(&mut self, body: Resource<HostOutgoingBody>) -> Result<()> {
        released::HostOutgoingBody::drop(self, body)
    }
}

impl types::HostFutureIncomingResponse for WasiHttpCtxView<'_> {
    async fn get(
        &mut self,
        response: Resource<HostFutureIncomingResponse>,
    ) -> Result<
        Option<std::result::Result<std::result::Result<Resource<HostIncomingResponse>, Error>, ()>>,
    > {
        let response = released::HostFutureIncomingResponse::get(self, response)?;
        Ok(response.map(|taken| taken.map(|response| response.map_err(Error::from))))
    }

    async fn subscribe(
        &mut self,
        response: Resource<HostFutureIncomingResponse>,
    ) -> Result<Resource<DynPollable>> {
        released::HostFutureIncomingResponse::subscribe(self, response)
    }

    async fn drop(&mut self, response: Resource<HostFutureIncomingResponse>) -> Result<()> {
        released::HostFutureIncomingResponse::drop(self, response)
    }
}

impl HandlerHost for WasiHttpCtxView<'_> {
    async fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<RequestOptions>,
    ) -> Result<std::result::Result<Resource<HostFutureIncomingResponse>, Error>> {
        let options = options.map(|options| self.table.push(options.into_released()));
        let options = options.transpose()?;
        let borrowed = options.as_ref().map(|options| Resource::new_borrow(options.rep()));
        let sent = outgoing_handler::Host::handle(self, request, borrowed);
        if let Some(options) = options {
            self.table.delete(options)?;
        }
        match sent {
            Ok(response) => Ok(Ok(response)),
            // A trap is passed on.
            Err(error) => Ok(Err(error.downcast()?.into())),
        }
    }
}
