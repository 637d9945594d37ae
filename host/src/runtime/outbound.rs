//! What a guest may reach over the network: nothing, unless its manifest names it.

use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Answers every outgoing request of a guest with a denial.
pub(super) struct Outbound;

type Sent = Result<(http::Response<WasiBody>, Transmission), Error>;
type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _received: Transmission,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        tracing::warn!(
            uri = %request.uri(),
            "an outgoing request was denied: the manifest's allowed_outbound_hosts does not name it"
        );
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
