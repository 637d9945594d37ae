//! The route table: which handler serves a path and method, and which API's error format it uses.

use super::open_inference::{MODEL_VERSION, grpc};
use super::{Api, Reply, Request, deepstack, hugging_face, native, open_inference, page, roboflow};
use crate::error::{Error, shortened};
use crate::model::Model;

type Handler = fn(&Model, &Request) -> Result<Reply, Error>;

/// One line of the table.
struct Row {
    method: Method,
    /// Segments in braces match any text that is not empty: [`MODEL_SEGMENT`] must be the model's name,
    /// [`VERSION_SEGMENT`] its version.
    path: &'static str,
    api: Api,
    handler: Handler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// `GET` and `HEAD`.
    Get,
    Post,
}

pub(super) const MODEL_SEGMENT: &str = "{model}";
pub(super) const VERSION_SEGMENT: &str = "{version}";

/// Of several lines with the same method, the first that matches wins.
const ROUTES: &[Row] = &[
    post("/detect", Api::Native, native::detect),
    get("/labels", Api::Native, native::labels),
    get("/healthz", Api::Native, native::health),
    get("/openapi.json", Api::Native, page::openapi),
    get("/", Api::Native, page::index),
    get("/page.css", Api::Native, page::style),
    get("/page.js", Api::Native, page::script),
    get("/icon.svg", Api::Native, page::icon),
    post("/v1/vision/detection", Api::DeepStack, deepstack::detection),
    get("/v1/vision/custom/list", Api::DeepStack, deepstack::list),
    post("/v1/vision/custom/list", Api::DeepStack, deepstack::list),
    post("/v1/vision/custom/{model}", Api::DeepStack, deepstack::custom),
    get("/v2", Api::OpenInference, open_inference::server),
    get("/v2/health/live", Api::OpenInference, open_inference::live),
    get("/v2/health/ready", Api::OpenInference, open_inference::ready),
    get("/v2/models/{model}", Api::OpenInference, open_inference::metadata),
    get("/v2/models/{model}/ready", Api::OpenInference, open_inference::model_ready),
    post("/v2/models/{model}/infer", Api::OpenInference, open_inference::infer),
    get("/v2/models/{model}/versions/{version}", Api::OpenInference, open_inference::metadata),
    get(
        "/v2/models/{model}/versions/{version}/ready",
        Api::OpenInference,
        open_inference::model_ready,
    ),
    post("/v2/models/{model}/versions/{version}/infer", Api::OpenInference, open_inference::infer),
    post("/", Api::HuggingFace, hugging_face::detect),
    post("/models/{model}", Api::HuggingFace, hugging_face::detect),
    get("/model/registry", Api::Roboflow, roboflow::registry),
    post("/model/add", Api::Roboflow, roboflow::add),
    post("/infer/object_detection", Api::Roboflow, roboflow::infer),
    post("/inference.GRPCInferenceService/ServerLive", Api::Grpc, grpc::live),
    post("/inference.GRPCInferenceService/ServerReady", Api::Grpc, grpc::live),
    post("/inference.GRPCInferenceService/ModelReady", Api::Grpc, grpc::model_ready),
    post("/inference.GRPCInferenceService/ServerMetadata", Api::Grpc, grpc::server),
    post("/inference.GRPCInferenceService/ModelMetadata", Api::Grpc, grpc::metadata),
    post("/inference.GRPCInferenceService/ModelInfer", Api::Grpc, grpc::infer),
];

const fn get(path: &'static str, api: Api, handler: Handler) -> Row {
    Row { method: Method::Get, path, api, handler }
}

const fn post(path: &'static str, api: Api, handler: Handler) -> Row {
    Row { method: Method::Post, path, api, handler }
}

impl Method {
    fn allows(self, method: &str) -> bool {
        match self {
            Self::Get => matches!(method, "GET" | "HEAD"),
            Self::Post => method == "POST",
        }
    }

    fn names(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
        }
    }
}

/// The route of a request.
#[derive(Clone, Copy)]
pub struct Route(&'static Row);

impl Route {
    /// Finds the route of a method and a path.
    ///
    /// # Errors
    /// The reply to a path or method without a route, in the shape of the API that the path belongs to.
    pub fn find(model: &Model, method: &str, path: &str) -> Result<Self, Reply> {
        let refuse = |error: &Error| Err(Api::for_path(path).error(error));
        let mut allowed = Vec::new();
        for row in ROUTES.iter().filter(|row| row.matches(path)) {
            if row.method.allows(method) {
                return match row.check_names(path, model) {
                    Ok(()) => Ok(Self(row)),
                    Err(error) => Err(row.api.error(&error)),
                };
            }
            allowed.push(row.method.names());
        }
        if allowed.is_empty() {
            return refuse(&Error::NotFound { path: shortened(path) });
        }
        allowed.dedup();
        refuse(&Error::MethodNotAllowed { method: shortened(method), allow: allowed.join(", ") })
    }

    /// Whether a request to this route has a body.
    pub fn has_body(self) -> bool {
        self.0.method == Method::Post
    }

    /// Handles a request. Errors become replies.
    pub fn respond(self, model: &Model, request: &Request) -> Reply {
        (self.0.handler)(model, request).unwrap_or_else(|error| self.refuse(&error))
    }

    /// The reply to an error, in the shape of this route's API.
    pub fn refuse(self, error: &Error) -> Reply {
        self.0.api.error(error)
    }
}

impl Row {
    fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        let fits = |pattern: &str| {
            segments.next().is_some_and(|segment| {
                segment == pattern || (pattern.starts_with('{') && !segment.is_empty())
            })
        };
        self.path.split('/').all(fits) && segments.next().is_none()
    }

    /// Checks the names in a path that matches.
    fn check_names(&self, path: &str, model: &Model) -> Result<(), Error> {
        for (pattern, segment) in self.path.split('/').zip(path.split('/')) {
            let segment = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
            match pattern {
                MODEL_SEGMENT => super::check_model(&segment, model)?,
                VERSION_SEGMENT if segment != MODEL_VERSION => {
                    return Err(Error::UnknownVersion { version: shortened(&segment) });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// All methods and paths, as OpenAPI writes them, except for those of gRPC.
#[cfg(test)]
pub(super) fn documented() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().filter(|row| row.api != Api::Grpc).map(|row| {
        let method = match row.method {
            Method::Get => "get",
            Method::Post => "post",
        };
        (method, row.path)
    })
}

#[cfg(test)]
mod tests {
    use super::ROUTES;

    #[test]
    fn a_path_matches_its_pattern_and_no_longer_or_shorter_one() {
        let matching = |path: &str| {
            ROUTES.iter().filter(|row| row.matches(path)).map(|row| row.path).collect::<Vec<_>>()
        };
        assert_eq!(matching("/detect"), ["/detect"]);
        assert_eq!(matching("/v1/vision/custom/yolo"), ["/v1/vision/custom/{model}"]);
        assert_eq!(
            matching("/v1/vision/custom/list"),
            ["/v1/vision/custom/list", "/v1/vision/custom/list", "/v1/vision/custom/{model}"]
        );
        for path in ["", "/detect/", "//detect", "/v1/vision/custom/", "/v1/vision/custom/a/b"] {
            assert!(matching(path).is_empty(), "{path}");
        }
    }
}
