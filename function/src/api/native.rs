//! The endpoints `POST /detect`, `GET /labels` and `GET /healthz`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{DetectRequest, PictureCount, Reply, Request};
use crate::error::{Error, ErrorBody};
use crate::model::Model;
use crate::options::{Annotation, MAX_REQUEST_MEGAPIXELS, Options, PictureFormat};
use crate::{Report, annotate, picture};

/// The result for one of several pictures.
#[derive(Serialize)]
#[serde(untagged)]
enum PictureResult<'m> {
    Report(Report<'m>),
    Error(ErrorBody),
}

/// `POST /detect`.
pub(super) fn detect(model: &Model, request: &Request) -> Result<Reply, Error> {
    let parsed = DetectRequest::read(request, model.labels(), model.default_options())?;
    let ReplyFormat { format, by_option } = ReplyFormat::of(&parsed.options, request.accept);
    match (parsed.count, format) {
        (PictureCount::One, Some(format)) => {
            detect_annotated(model, &parsed.pictures[0], &parsed.options, format)
        }
        (PictureCount::One, None) => {
            let (report, _) = crate::detect(model, &parsed.pictures[0], &parsed.options)?;
            let detections_header = Some(detections_header(model, [&report]));
            Ok(Reply { detections_header, ..Reply::json(200, &report) })
        }
        (PictureCount::Many, Some(_)) if by_option => Err(Error::BadOption {
            name: "annotate".into(),
            value: "true".into(),
            expected: "false for a request with several pictures".into(),
        }),
        // The reply to a list is always JSON.
        (PictureCount::Many, _) => Ok(detect_many(model, &parsed)),
    }
}

/// Whether the client wants an annotated picture, and whether an option or the `Accept` header says so.
struct ReplyFormat {
    format: Option<PictureFormat>,
    by_option: bool,
}

impl ReplyFormat {
    fn of(options: &Options, accept: Option<&str>) -> Self {
        match options.annotate {
            Some(Annotation::As(format)) => Self { format: Some(format), by_option: true },
            Some(Annotation::Off) => Self { format: None, by_option: true },
            None => Self { format: preferred_picture(accept), by_option: false },
        }
    }
}

/// Detects objects in several pictures. The reply lists a report or an error for each, in the same order.
fn detect_many(model: &Model, parsed: &DetectRequest) -> Reply {
    let mut megapixels = 0.0;
    let mut results = Vec::new();
    for picture in &parsed.pictures {
        megapixels += picture::megapixels(picture);
        let result = if megapixels > f64::from(MAX_REQUEST_MEGAPIXELS) {
            Err(Error::TooManyPixels { limit: MAX_REQUEST_MEGAPIXELS })
        } else {
            crate::detect(model, picture, &parsed.options)
        };
        results.push(match result {
            Ok((report, _)) => PictureResult::Report(report),
            Err(error) => PictureResult::Error(error.body()),
        });
    }
    let reports = results.iter().filter_map(|result| match result {
        PictureResult::Report(report) => Some(report),
        PictureResult::Error(_) => None,
    });
    let detections_header = Some(detections_header(model, reports));
    Reply { detections_header, ..Reply::json(200, &results) }
}

fn detect_annotated(
    model: &Model,
    bytes: &[u8],
    options: &Options,
    format: PictureFormat,
) -> Result<Reply, Error> {
    let options = Options { annotate: Some(Annotation::As(format)), ..options.clone() };
    let (report, picture) = crate::detect(model, bytes, &options)?;
    let mut picture = picture.into_upright();
    annotate::draw(&mut picture, &report.detections)?;
    let content_type = match format {
        PictureFormat::Jpeg => "image/jpeg",
        PictureFormat::Png => "image/png",
    };
    let body = annotate::encode(&picture, format)?;
    let detections_header = Some(detections_header(model, [&report]));
    Ok(Reply { status: 200, content_type, allow: None, detections_header, body })
}

/// The number of detections of each label, in the header's format.
fn detections_header<'r, 'm: 'r>(
    model: &Model,
    reports: impl IntoIterator<Item = &'r Report<'m>>,
) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for detection in reports.into_iter().flat_map(|report| &report.detections) {
        *counts.entry(detection.label).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.into_iter().map(|(label, count)| format!("{label}={count}")).collect();
    format!("{}; {}", model.manifest().name, counts.join(", "))
}

/// `GET /labels`: the model's name, and its classes in order.
pub(super) fn labels(model: &Model) -> Reply {
    #[derive(Serialize)]
    struct Label<'m> {
        class_id: u32,
        label: &'m str,
    }
    #[derive(Serialize)]
    struct LabelList<'m> {
        model: &'m str,
        labels: Vec<Label<'m>>,
    }
    let labels =
        model.labels().entries().map(|(class_id, label)| Label { class_id, label }).collect();
    Reply::json(200, &LabelList { model: &model.manifest().name, labels })
}

/// `GET /healthz`: the component runs and contains a model.
pub(super) fn health(model: &Model) -> Reply {
    #[derive(Serialize)]
    struct Health<'m> {
        status: &'static str,
        model: &'m str,
    }
    Reply::json(200, &Health { status: "ok", model: &model.manifest().name })
}

/// The picture format an `Accept` header prefers over JSON, if it does (RFC 9110, 12.5.1).
fn preferred_picture(accept: Option<&str>) -> Option<PictureFormat> {
    let ranges = accept?.split(',').filter_map(|range| {
        let range: mime::Mime = range.trim().parse().ok()?;
        let quality = range
            .get_param("q")
            .map_or(Some(1.0), |quality| quality.as_str().parse::<f32>().ok())?;
        let format = match (range.type_().as_str(), range.subtype().as_str()) {
            ("image", "png") => Some(PictureFormat::Png),
            ("image", "jpeg" | "*") => Some(PictureFormat::Jpeg),
            ("application", "json" | "*") | ("*", "*") => None,
            _ => return None,
        };
        // Quality 0 means not acceptable.
        (quality > 0.0).then_some((quality, format))
    });
    // Of several best ranges, the first wins; `max_by` would return the last.
    ranges.reduce(|best, next| if next.0 > best.0 { next } else { best })?.1
}

#[cfg(test)]
mod tests {
    use super::{PictureFormat, preferred_picture};

    #[test]
    fn accept_chooses_by_quality_then_by_order() {
        let cases = [
            (None, None),
            (Some("*/*"), None),
            (Some("application/json"), None),
            (Some("image/png"), Some(PictureFormat::Png)),
            (Some("image/jpeg, image/png"), Some(PictureFormat::Jpeg)),
            (Some("image/jpeg;q=0.5, image/png"), Some(PictureFormat::Png)),
            (Some("application/json, image/png"), None),
            (Some("text/html, image/*;q=0.8, */*;q=0.1"), Some(PictureFormat::Jpeg)),
            (Some("nonsense"), None),
            (Some("image/png;q=0"), None),
        ];
        for (accept, expected) in cases {
            assert_eq!(preferred_picture(accept), expected, "{accept:?}");
        }
    }
}
