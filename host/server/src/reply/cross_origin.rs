//! Cross-origin resource sharing: which pages of other origins may read a component's replies
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>). Credentials are never shared.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use wasmtime_wasi_http::WasiBody;

use spotter_app::App;
use spotter_app::browsers::Origins;
use spotter_app::routes::Target;

/// How long a browser may remember what is allowed, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// What the CORS headers of a reply say.
pub(crate) struct Sharing {
    /// `None` if the request is not from a page of an origin that may read the reply.
    allowed: Option<HeaderValue>,
    /// Whether a request from another origin may get other headers.
    depends_on_origin: bool,
}

impl Sharing {
    /// The headers for the component that handles a request. `None` if no other origin may read its replies.
    pub(crate) fn of<B>(app: &App, request: &Request<B>) -> Option<Self> {
        let (Target::Component(id), _) = app.routes.resolve(request.uri())? else {
            return None;
        };
        let origins = &app.components.get(id)?.browsers.cross_origin;
        let origin = request.headers().get(ORIGIN);
        match origins {
            Origins::Any => {
                // Without an origin too: a cache may keep the reply for a page that has one.
                Some(Self {
                    allowed: Some(HeaderValue::from_static("*")),
                    depends_on_origin: false,
                })
            }
            Origins::Listed(_) if origins.is_own_only() => None,
            Origins::Listed(listed) => {
                let allowed = origin.filter(|origin| listed.contains(origin)).cloned();
                Some(Self { allowed, depends_on_origin: true })
            }
        }
    }

    /// The reply to a browser's preflight request. The component does not see it, and decides on the actual request.
    pub(crate) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<WasiBody>> {
        self.allowed.as_ref()?;
        let method = request.headers().get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if request.method() != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(super::full(""));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if let Some(names) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        for name in [ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS] {
            headers.append(VARY, name.into());
        }
        Some(response)
    }

    /// Adds the headers to a reply, also to an error.
    pub(crate) fn add(&self, headers: &mut HeaderMap) {
        if self.depends_on_origin {
            headers.append(VARY, ORIGIN.into());
        }
        if let Some(allowed) = &self.allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        }
    }
}
