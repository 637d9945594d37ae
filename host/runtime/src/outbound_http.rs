//! Guests' outgoing requests: sent if the manifest allows the host, otherwise denied.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks, default_send_request,
};

use spotter_app::allowed_hosts::{
    AllowedHosts, Permission, default_port, is_chained_host, is_public, sibling_id,
};
use spotter_config::limits::MAX_CALL_DEPTH;
use spotter_config::outbound_http::MAX_OUTBOUND_CONNECTIONS;

/// Sends the outgoing requests of one guest.
pub(super) struct Outbound {
    pub(super) allowed: Arc<AllowedHosts>,
    pub(super) component: String,
    /// The server through which other components are reached, if there is one.
    pub(super) siblings: Option<Weak<dyn ServiceChaining>>,
    /// The depth of calls between guests that led to this one.
    pub(super) hops: u32,
    pub(super) permits: OutboundPermits,
    /// The memory for the bodies that the guest writes.
    pub(super) bodies: BodyMemory,
}

/// How much the host buffers of the bodies that one guest writes: replies and outgoing requests. The more bodies
/// there are, the less it buffers of each further one.
pub(super) struct BodyMemory {
    remaining: usize,
}

/// What all bodies of one guest may take, in bytes.
const MAX_BODIES_BYTES: usize = 8 << 20;
/// The most and the least that the host takes of a body at once, in bytes.
const MAX_BODY_CHUNK_BYTES: usize = 64 << 10;
const MIN_BODY_CHUNK_BYTES: usize = 4 << 10;
/// How many chunks of a body may be in the host at once: wasmtime adds one to what it is told.
const CHUNKS_PER_BODY: usize = 2;

impl BodyMemory {
    pub(super) fn new() -> Self {
        Self { remaining: MAX_BODIES_BYTES }
    }

    /// The size of a new body's chunks, in bytes.
    fn reserve(&mut self) -> usize {
        let chunk = (self.remaining / 32).clamp(MIN_BODY_CHUNK_BYTES, MAX_BODY_CHUNK_BYTES);
        self.remaining = self.remaining.saturating_sub(chunk * CHUNKS_PER_BODY);
        chunk
    }
}

/// A permit for a connection and, if the user limits them, one for a request.
type RequestPermits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// Permits for outgoing connections, shared by all guests.
#[derive(Clone)]
pub(super) struct OutboundPermits {
    connections: Arc<Semaphore>,
    /// Those for HTTP, if the user limits them; a request then needs one of each.
    requests: Option<Arc<Semaphore>>,
}

impl OutboundPermits {
    /// Permits for [`MAX_OUTBOUND_CONNECTIONS`] connections, of which `max_requests` may be for HTTP.
    pub(super) fn new(max_requests: Option<usize>) -> Self {
        let requests = max_requests.map(|requests| {
            let permits = Arc::new(Semaphore::new(requests));
            // Otherwise a request would wait for ever for the permit that nobody has.
            if requests == 0 {
                permits.close();
            }
            permits
        });
        Self { connections: Arc::new(Semaphore::new(MAX_OUTBOUND_CONNECTIONS)), requests }
    }

    /// The permits for connections of all protocols.
    pub(super) fn connections(&self) -> Arc<Semaphore> {
        Arc::clone(&self.connections)
    }

    /// Waits until a request may be sent, but not longer than the guest wants to wait for a connection or a response.
    /// Dropping the permits lets the next request be sent.
    ///
    /// # Errors
    /// If the user allows no requests, or the wait is too long.
    async fn for_request(self, options: Option<RequestOptions>) -> Result<RequestPermits, Error> {
        let times = options.map(|options| [options.connect_timeout, options.first_byte_timeout]);
        let acquired = match times.into_iter().flatten().flatten().min() {
            Some(time) => {
                timeout(time, self.acquire()).await.map_err(|_| Error::ConnectionTimeout)?
            }
            None => self.acquire().await,
        };
        acquired.map_err(|_| Error::ConnectionLimitReached)
    }

    async fn acquire(self) -> Result<RequestPermits, AcquireError> {
        let request = match self.requests {
            Some(requests) => Some(requests.acquire_owned().await?),
            None => None,
        };
        Ok((self.connections.acquire_owned().await?, request))
    }
}

/// A request from a guest to its own application. It never leaves the process.
pub struct ChainedRequest {
    pub request: Request<WasiBody>,
    /// The target component; `None` if the application's routes decide.
    pub to: Option<String>,
    pub hops: u32,
}

/// The application as its own guests see it.
pub trait ServiceChaining: Send + Sync {
    /// Handles a guest's request. A fault becomes an error reply.
    fn answer(
        self: Arc<Self>,
        internal: ChainedRequest,
    ) -> Pin<Box<dyn Future<Output = Response<WasiBody>> + Send>>;
}

type Sent = Result<(Response<WasiBody>, Transmission), Error>;
type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Outbound {
    fn permit(&self, request: &Request<WasiBody>) -> Option<Permission> {
        let uri = request.uri();
        let scheme = uri.scheme_str()?;
        let port = uri.port_u16().unwrap_or_else(|| default_port(scheme));
        self.allowed.permit(scheme, uri.host()?, port)
    }

    /// Names the application as the host of a request to a URL without one. WASI makes such a URL `https://:443/path`.
    fn name_itself(&self, request: &mut Request<WasiBody>) {
        let is_https = self.allowed.permit("https", "self", 443).is_some();
        let mut parts = Parts::default();
        parts.scheme = Some(if is_https { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(Authority::from_static("self"));
        let path = request.uri().path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

impl WasiHttpHooks for Outbound {
    // By default, it makes a filter for each header.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        CHUNKS_PER_BODY - 1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        self.bodies.reserve()
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        self.bodies.reserve()
    }

    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Transmission,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if request.uri().host().is_none_or(str::is_empty) {
            self.name_itself(&mut request);
        }
        // A guest may copy the `host` that it received, but its own request is for another.
        let target = request.uri().authority().map(|target| HeaderValue::try_from(target.as_str()));
        if let Some(Ok(target)) = target {
            request.headers_mut().insert(header::HOST, target);
        }
        let Some(permission) = self.permit(&request) else {
            tracing::warn!(
                component = self.component,
                uri = %request.uri(),
                "an outgoing request was denied: add its host to `allowed_outbound_hosts`"
            );
            return Box::new(async { Err(Error::HttpRequestDenied) });
        };
        let host = request.uri().host().unwrap_or_default().to_ascii_lowercase();
        if is_chained_host(&host) {
            let to = sibling_id(&host).map(str::to_owned);
            return Box::new(call_sibling(self.siblings.clone(), to, request, self.hops + 1));
        }
        let permits = self.permits.clone();
        Box::new(async move {
            if permission == Permission::ByWildcard {
                keep_to_public_addresses(&mut request).await?;
            }
            let permits = permits.for_request(options).await?;
            let (response, transmission) = default_send_request(request, options).await?;
            let response = response.map(|body| {
                body.map_frame(move |frame| {
                    let _live_as_long = &permits;
                    frame
                })
                .boxed_unsync()
            });
            Ok((response, Box::new(transmission) as Transmission))
        })
    }
}

async fn call_sibling(
    siblings: Option<Weak<dyn ServiceChaining>>,
    to: Option<String>,
    request: Request<WasiBody>,
    hops: u32,
) -> Sent {
    if hops > MAX_CALL_DEPTH {
        return Err(Error::LoopDetected);
    }
    let siblings = siblings.and_then(|siblings| siblings.upgrade());
    let siblings = siblings.ok_or(Error::DestinationUnavailable)?;
    let response = siblings.answer(ChainedRequest { request, to, hops }).await;
    Ok((response, Box::new(async { Ok(()) })))
}

/// Rejects a host with a private address, which a wildcard does not include. A plain HTTP request is then sent
/// to the address that was checked, so that a second lookup cannot return another one. With TLS, the server's
/// certificate prevents that.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmtime_wasi_http::{Error, RequestOptions};

    use super::{
        BodyMemory, CHUNKS_PER_BODY, MAX_BODY_CHUNK_BYTES, MIN_BODY_CHUNK_BYTES, OutboundPermits,
    };

    #[tokio::test]
    async fn a_request_waits_for_a_permit_no_longer_than_its_timeouts() {
        let permits = OutboundPermits::new(Some(1));
        let first = permits.clone().for_request(None).await.unwrap();
        for (connect, first_byte) in [(Some(10), Some(60_000)), (None, Some(10))] {
            let options = RequestOptions {
                connect_timeout: connect.map(Duration::from_millis),
                first_byte_timeout: first_byte.map(Duration::from_millis),
                between_bytes_timeout: None,
            };
            let refused = permits.clone().for_request(Some(options)).await;
            assert!(matches!(refused, Err(Error::ConnectionTimeout)));
        }
        drop(first);
        assert!(permits.for_request(None).await.is_ok());
    }

    #[test]
    fn many_bodies_take_little_memory_and_each_can_be_written() {
        let mut memory = BodyMemory::new();
        assert_eq!(memory.reserve(), MAX_BODY_CHUNK_BYTES);
        let chunks: Vec<_> = (0..1000).map(|_| memory.reserve()).collect();
        assert!(chunks.iter().sum::<usize>() * CHUNKS_PER_BODY < 16 << 20);
        assert_eq!(chunks.last(), Some(&MIN_BODY_CHUNK_BYTES));
    }
}
