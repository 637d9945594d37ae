//! Documents what each route reads, and what it replies.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::Report;
use crate::api::native::{Health, LabelList, PictureResult};
use crate::api::{deepstack, hugging_face, open_inference, roboflow};
use crate::error::ErrorBody;
use crate::options::MAX_PICTURES;

/// Statuses that the host may send in place of any reply to a request with a body.
const HOST_ERROR_STATUSES: &[u16] = &[408, 500, 503, 504];

/// The documentation of one route.
pub(super) struct Operation {
    summary: &'static str,
    tag: &'static str,
    /// The options in the query, by reference.
    query: &'static [&'static str],
    /// By media type.
    request: Vec<(&'static str, Value)>,
    /// By media type.
    reply: Vec<(&'static str, Value)>,
    refused: &'static [u16],
    /// The name of the response that describes a refusal.
    error: &'static str,
}

/// The responses that operations refer to.
pub(super) fn responses() -> Value {
    let response = |description: &str, schema: Value| {
        let schemas = [("application/json", schema)];
        json!({"description": description, "content": content(&schemas)})
    };
    json!({
        "spotter": response("Refused", reply_of::<ErrorBody>()),
        "deepstack": response("Refused", reply_of::<deepstack::ErrorResponse>()),
        "error": response("Refused", reply_of::<open_inference::ErrorResponse>()),
        "roboflow": response("Refused", reply_of::<roboflow::ErrorResponse>()),
        "host": response("Refused or ended by the host", reply_of::<ErrorBody>()),
    })
}

/// The parameters that operations refer to.
pub(super) fn parameters() -> Value {
    let query = |name: &str, schema: Value, description: &str| json!({"name": name, "in": "query", "schema": schema, "description": description});
    let fraction = || json!({"type": "number", "minimum": 0, "maximum": 1});
    json!({
        "model": {
            "name": "model", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
            "description": "The model's name, as in GET /labels",
            "example": "ssdlite_mobilenet_v2",
        },
        "version": {
            "name": "version", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1},
            "description": "The model's version",
            "example": "1",
        },
        "min_confidence": query("min_confidence", fraction(), "Detections below this confidence are left out"),
        "iou_threshold": query(
            "iou_threshold",
            fraction(),
            "If two boxes of the same class overlap by more than this, only the more confident one is kept",
        ),
        "max_detections": query(
            "max_detections",
            json!({"type": "integer", "minimum": 1, "maximum": 1000}),
            "At most this many detections, the most confident ones, are returned",
        ),
        "classes": query("classes", json!({"type": "string"}), "Names separated by commas"),
        "model_option": query(
            "model",
            json!({"type": "string", "default": "ssdlite_mobilenet_v2"}),
            "The model's name, as in GET /labels. The host gives the request to the component that serves it",
        ),
        "annotate": query(
            "annotate",
            json!({"enum": ["true", "false", "jpeg", "png"]}),
            "Whether to reply with the picture, with the boxes drawn in",
        ),
    })
}

impl Operation {
    /// The documentation of a route.
    pub(super) fn for_route(method: &str, path: &str) -> Self {
        match (method, path) {
            ("post", "/detect") => Self::native("Detects objects in one picture, or in several")
                .query(&[
                    "min_confidence",
                    "iou_threshold",
                    "max_detections",
                    "classes",
                    "model_option",
                    "annotate",
                ])
                .reads("image/*", binary())
                .reads("application/octet-stream", binary())
                .reads("multipart/form-data", form(true))
                .reads("application/json", json_body())
                .replies_with(
                    "application/json",
                    json!({"oneOf": [
                        reply_of::<Report>(),
                        {"type": "array", "items": reply_of::<PictureResult>()},
                    ]}),
                )
                .replies_with("image/jpeg", binary())
                .replies_with("image/png", binary())
                .refuses(&[400, 404, 413, 415, 422]),
            ("get", "/labels") => Self::native("The model's classes").replies::<LabelList>(),
            ("get", "/healthz") => {
                Self::native("Whether the detector is ready").replies::<Health>()
            }
            ("get", "/openapi.json") => Self::native("This document")
                .replies_with("application/json", json!({"type": "object"})),
            ("get", "/") => Self::native("A page for trying pictures")
                .replies_with("text/html", json!({"type": "string"})),
            ("get", "/page.css") => {
                Self::native("The page's style").replies_with("text/css", json!({"type": "string"}))
            }
            ("get", "/page.js") => Self::native("The page's script")
                .replies_with("text/javascript", json!({"type": "string"})),
            ("get", "/icon.svg") => {
                Self::native("The page's icon").replies_with("image/svg+xml", binary())
            }
            ("post", "/v1/vision/detection") => {
                Self::deepstack("Detects objects in one picture").detects_by_form()
            }
            ("post", "/v1/vision/custom/{model}") => {
                Self::deepstack("Detects objects with the named model").detects_by_form().or_404()
            }
            (_, "/v1/vision/custom/list") => {
                Self::deepstack("The names of the models").replies::<deepstack::ModelList>()
            }
            (_, path) if path.starts_with("/v2") => Self::open_inference(path),
            ("post", "/") => Self::hugging_face("Detects objects in one picture"),
            ("post", "/models/{model}") => {
                Self::hugging_face("Detects objects with the named model").or_404()
            }
            ("get", "/model/registry") => Self::roboflow("The models that are loaded")
                .replies::<roboflow::ModelsDescriptions>(),
            ("post", "/model/add") => Self::roboflow("Loads a model: only the component's own")
                .reads("application/json", body_of::<roboflow::request::AddModelRequest>())
                .replies::<roboflow::ModelsDescriptions>()
                .refuses(&[400, 404, 413]),
            ("post", "/infer/object_detection") => {
                let found = reply_of::<roboflow::ObjectDetectionInferenceResponse>();
                Self::roboflow("Detects objects in one picture, or in several")
                    .reads(
                        "application/json",
                        body_of::<roboflow::request::ObjectDetectionInferenceRequest>(),
                    )
                    .replies_with(
                        "application/json",
                        json!({"oneOf": [found.clone(), {"type": "array", "items": found}]}),
                    )
                    .refuses(&[400, 404, 413, 422])
            }
            _ => panic!("{method} {path} is not documented"),
        }
    }

    fn open_inference(path: &str) -> Self {
        let operation = |summary| Self::new("Open Inference Protocol", summary, "error");
        let end = path.rsplit('/').next().unwrap_or_default();
        match (end, path.contains("{model}")) {
            ("v2", _) => operation("The server's name, version and extensions")
                .replies::<open_inference::ServerMetadata>(),
            ("live", _) => {
                operation("Whether the server is live").replies::<open_inference::Live>()
            }
            ("ready", false) => {
                operation("Whether the server is ready").replies::<open_inference::Ready>()
            }
            ("ready", true) => operation("Whether the model is ready")
                .replies::<open_inference::ModelReady>()
                .or_404(),
            ("infer", _) => operation("Detects objects in a batch of pictures")
                .reads(
                    "application/json",
                    body_of::<open_inference::request::InferenceRequestBody>(),
                )
                .reads("application/octet-stream", binary())
                .replies::<open_inference::tensors::InferenceResponse>()
                .replies_with("application/octet-stream", binary())
                .refuses(&[400, 404, 413, 422]),
            _ => operation("The model's inputs and outputs")
                .replies::<open_inference::ModelMetadata>()
                .or_404(),
        }
    }

    fn new(tag: &'static str, summary: &'static str, error: &'static str) -> Self {
        Self { summary, tag, query: &[], request: vec![], reply: vec![], refused: &[], error }
    }

    fn native(summary: &'static str) -> Self {
        Self::new("Spotter", summary, "spotter")
    }

    fn deepstack(summary: &'static str) -> Self {
        Self::new("DeepStack and CodeProject.AI", summary, "deepstack")
    }

    fn roboflow(summary: &'static str) -> Self {
        Self::new("Roboflow", summary, "roboflow")
    }

    fn hugging_face(summary: &'static str) -> Self {
        Self::new("Hugging Face", summary, "error")
            .reads("image/*", binary())
            .reads("application/octet-stream", binary())
            .reads("application/json", body_of::<hugging_face::ObjectDetectionInput>())
            .replies_with(
                "application/json",
                json!({
                    "type": "array",
                    "items": reply_of::<hugging_face::ObjectDetectionOutputElement>(),
                }),
            )
            .refuses(&[400, 413, 422])
    }

    fn detects_by_form(self) -> Self {
        self.query(&["min_confidence", "iou_threshold", "max_detections", "classes"])
            .reads("multipart/form-data", form(false))
            .replies::<deepstack::DetectionResponse>()
            .refuses(&[400, 413])
    }

    fn query(mut self, names: &'static [&'static str]) -> Self {
        self.query = names;
        self
    }

    fn reads(mut self, media_type: &'static str, schema: Value) -> Self {
        self.request.push((media_type, schema));
        self
    }

    fn replies<T: JsonSchema>(self) -> Self {
        self.replies_with("application/json", reply_of::<T>())
    }

    fn replies_with(mut self, media_type: &'static str, schema: Value) -> Self {
        self.reply.push((media_type, schema));
        self
    }

    fn refuses(mut self, statuses: &'static [u16]) -> Self {
        self.refused = statuses;
        self
    }

    /// A path that names a model may name one that does not exist.
    fn or_404(mut self) -> Self {
        self.refused = match self.refused {
            [] => &[404],
            [400, 413] => &[400, 404, 413],
            _ => &[400, 404, 413, 422],
        };
        self
    }

    /// The operation object.
    pub(super) fn to_json(&self, path: &str) -> Value {
        let mut parameters: Vec<Value> = super::path_parameters(path).collect();
        parameters.extend(
            self.query
                .iter()
                .map(|name| json!({"$ref": format!("#/components/parameters/{name}")})),
        );
        let mut replies = Map::new();
        replies.insert(
            "200".into(),
            json!({"description": "Success", "content": content(&self.reply)}),
        );
        let faults = self.refused.iter().map(|status| (status, self.error));
        for (status, name) in
            faults.chain(HOST_ERROR_STATUSES.iter().map(|status| (status, "host")))
        {
            let reply = json!({"$ref": format!("#/components/responses/{name}")});
            replies.insert(status.to_string(), reply);
        }
        let mut operation =
            json!({"summary": self.summary, "tags": [self.tag], "responses": replies});
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if !self.request.is_empty() {
            operation["requestBody"] = json!({"required": true, "content": content(&self.request)});
        }
        operation
    }
}

fn content(schemas: &[(&str, Value)]) -> Value {
    let media = |(media_type, schema): &(&str, Value)| {
        ((*media_type).to_owned(), json!({"schema": schema}))
    };
    Value::Object(schemas.iter().map(media).collect())
}

fn reply_of<T: JsonSchema>() -> Value {
    schema_of::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn body_of<T: JsonSchema>() -> Value {
    schema_of::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// The schema of a type. Its title, `module.Type`, is its name in the document.
fn schema_of<T: JsonSchema>(settings: SchemaSettings) -> Value {
    let settings = settings.with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    let path = std::any::type_name::<T>().split('<').next().unwrap_or_default();
    let mut names = path.rsplit("::");
    let (name, module) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    schema["title"] = format!("{module}.{name}").into();
    schema
}

fn binary() -> Value {
    json!({})
}

fn form(has_several: bool) -> Value {
    let picture = json!({"type": "string", "format": "binary"});
    let image = if has_several {
        json!({"type": "array", "items": picture, "minItems": 1, "maxItems": MAX_PICTURES})
    } else {
        picture
    };
    json!({
        "type": "object",
        "required": ["image"],
        "properties": {"image": image, "min_confidence": {"type": "number", "minimum": 0, "maximum": 1}},
    })
}

fn json_body() -> Value {
    let picture = json!({"type": "string", "contentEncoding": "base64"});
    let several =
        json!({"type": "array", "items": picture, "minItems": 1, "maxItems": MAX_PICTURES});
    let fraction = json!({"type": "number", "minimum": 0, "maximum": 1});
    json!({
        "type": "object",
        "required": ["image"],
        "additionalProperties": false,
        "properties": {
            "image": {"oneOf": [picture, several]},
            "min_confidence": fraction,
            "iou_threshold": fraction,
            "max_detections": {"type": "integer", "minimum": 1, "maximum": 1000},
            "classes": {"type": ["string", "array"], "items": {"type": "string"}, "maxItems": 256},
            "model": {"type": "string"},
            "annotate": {"enum": [true, false, "true", "false", "jpeg", "png"]},
        },
    })
}
