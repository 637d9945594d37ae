//! Spotter's own API: `POST /detect`, `GET /labels` and `GET /healthz`.

use serde::Serialize;

use super::accept::preferred_picture;
use super::detection::{self, Detected, PictureSource};
use super::{DetectRequest, PictureCount, Reply, Request};
use crate::Report;
use crate::error::{Error, ErrorBody};
use crate::model::Model;
use crate::options::{Annotation, Options, PictureFormat};

/// The result for one of several pictures.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(super) enum PictureResult<'m> {
    Report(Report<'m>),
    Error(ErrorBody),
}

/// The model's classes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct LabelList<'m> {
    model: &'m str,
    labels: Vec<Label<'m>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Label<'m> {
    class_id: u32,
    label: &'m str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Health<'m> {
    status: &'static str,
    model: &'m str,
}

/// `POST /detect`.
pub(super) fn detect(model: &Model, request: &Request) -> Result<Reply, Error> {
    let DetectRequest { mut pictures, count, mut options } =
        DetectRequest::read(request, model.labels(), Options::new(model.thresholds()))?;
    if let Some(name) = &options.model {
        super::check_model(name, model)?;
    }
    let ReplyFormat { format, by_option } = ReplyFormat::new(&options, request.accept);
    options.annotate = format.map(Annotation::As);
    match (count, format) {
        (PictureCount::One, format) => {
            let source = PictureSource::File(pictures.swap_remove(0));
            let Detected { report, annotated } = detection::detect(model, source, &options)?;
            let reply = match format.zip(annotated) {
                Some((format, file)) => Reply::new(200, format.content_type(), file),
                None => Reply::json(200, &report),
            };
            Ok(reply.with_detection_counts(model, [&report]))
        }
        (PictureCount::Many, Some(_)) if by_option => Err(Error::BadOption {
            name: "annotate".into(),
            value: "true".into(),
            expected: "false for a request with several pictures".into(),
        }),
        // The reply to a list is always JSON.
        (PictureCount::Many, _) => {
            options.annotate = None;
            let sources = pictures.into_iter().map(PictureSource::File);
            Ok(detect_many(model, sources, &options))
        }
    }
}

/// Whether the client wants an annotated picture, and whether an option or the `Accept` header says so.
struct ReplyFormat {
    format: Option<PictureFormat>,
    by_option: bool,
}

impl ReplyFormat {
    fn new(options: &Options, accept: Option<&str>) -> Self {
        match options.annotate {
            Some(Annotation::As(format)) => Self { format: Some(format), by_option: true },
            Some(Annotation::Off) => Self { format: None, by_option: true },
            None => Self { format: preferred_picture(accept), by_option: false },
        }
    }
}

/// Detects objects in several pictures. The reply lists a report or an error for each, in the same order.
fn detect_many<'r>(
    model: &Model,
    sources: impl Iterator<Item = PictureSource<'r>>,
    options: &Options,
) -> Reply {
    let results: Vec<_> = detection::detect_each(model, sources, options)
        .map(|result| match result {
            Ok(Detected { report, .. }) => PictureResult::Report(report),
            Err(error) => PictureResult::Error(error.body()),
        })
        .collect();
    let reports = results.iter().filter_map(|result| match result {
        PictureResult::Report(report) => Some(report),
        PictureResult::Error(_) => None,
    });
    Reply::json(200, &results).with_detection_counts(model, reports)
}

/// `GET /labels`: the model's name, and its classes in order.
pub(super) fn labels(model: &Model, _: &Request) -> Result<Reply, Error> {
    let labels =
        model.labels().entries().map(|(class_id, label)| Label { class_id, label }).collect();
    Ok(Reply::json(200, &LabelList { model: &model.config().name, labels }))
}

/// `GET /healthz`: the component runs and contains a model.
pub(super) fn health(model: &Model, _: &Request) -> Result<Reply, Error> {
    Ok(Reply::json(200, &Health { status: "ok", model: &model.config().name }))
}
