//! A guest's own requests: sent where its manifest allows, denied elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, default_send_request};

use crate::app::outbound::{AllowedHosts, Permission, default_port, is_public};

/// Sends the outgoing requests of one guest.
pub(super) struct Outbound {
    allowed: Arc<AllowedHosts>,
    component: String,
}

type Sent = Result<(Response<WasiBody>, Transmission), Error>;
type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Outbound {
    pub(super) fn new(allowed: Arc<AllowedHosts>, component: &str) -> Self {
        Self { allowed, component: component.to_owned() }
    }

    fn permit(&self, request: &Request<WasiBody>) -> Option<Permission> {
        let uri = request.uri();
        let scheme = uri.scheme_str()?;
        let port = uri.port_u16().unwrap_or_else(|| default_port(scheme));
        self.allowed.permit(scheme, uri.host()?, port)
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Transmission,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let Some(permission) = self.permit(&request) else {
            tracing::warn!(
                component = self.component,
                uri = %request.uri(),
                "an outgoing request was denied: `allowed_outbound_hosts` does not allow it"
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        Box::new(async move {
            if permission == Permission::ByWildcard {
                keep_to_public_addresses(&mut request).await?;
            }
            let (response, transmission) = default_send_request(request, options).await?;
            Ok((response.map(BodyExt::boxed_unsync), Box::new(transmission) as Transmission))
        })
    }
}

/// Refuses a host with a private address, which a wildcard does not mean. A plain request is then
/// sent to the address that was looked at, so that no second look-up can give another; with TLS, the
/// server's certificate keeps an impostor out.
async fn keep_to_public_addresses(request: &mut Request<WasiBody>) -> Result<(), Error> {
    let uri = request.uri().clone();
    let (Some(host), Some(scheme)) = (uri.host(), uri.scheme()) else {
        return Err(Error::HttpRequestUriInvalid);
    };
    let port = uri.port_u16().unwrap_or_else(|| default_port(scheme.as_str()));
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((name, port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|_| Error::DestinationNotFound)?.collect();
    let Some(first) = addresses.first() else { return Err(Error::DestinationNotFound) };
    if !addresses.iter().all(|address| is_public(address.ip())) {
        return Err(Error::DestinationIpProhibited);
    }
    if *scheme == Scheme::HTTP {
        let named = uri.authority().map_or(host, Authority::as_str);
        let named = HeaderValue::from_str(named).map_err(|_| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(header::HOST, named);
        let mut parts = uri.into_parts();
        parts.authority = Authority::try_from(first.to_string()).ok();
        *request.uri_mut() = parts.try_into().map_err(|_| Error::HttpRequestUriInvalid)?;
    }
    Ok(())
}
