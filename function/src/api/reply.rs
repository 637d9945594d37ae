//! The parts of a reply, common to all APIs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Report;
use crate::error::Error;
use crate::model::Model;

/// The header from which a host counts detections: `MODEL; LABEL=NUMBER, LABEL=NUMBER`.
const DETECTIONS_HEADER: &str = "spotter-detections";

/// The parts of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: &'static str,
    /// Headers other than `content-type` and `content-length`.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Header fields that follow the body.
    pub trailers: Vec<(&'static str, String)>,
}

impl Reply {
    /// A reply without further headers.
    pub(super) fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, headers: Vec::new(), body, trailers: Vec::new() }
    }

    /// A JSON reply.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        Self::new(status, "application/json", body)
    }

    /// An error in the shape of Spotter's own API.
    pub fn error(error: &Error) -> Self {
        Self::json(error.status(), &error.body())
    }

    /// Adds a header.
    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a trailer.
    pub(super) fn with_trailer(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.trailers.push((name, value.into()));
        self
    }

    /// Adds the header with the number of detections of each label.
    pub(super) fn with_detection_counts<'r, 'm: 'r>(
        self,
        model: &Model,
        reports: impl IntoIterator<Item = &'r Report<'m>>,
    ) -> Self {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for detection in reports.into_iter().flat_map(|report| &report.detections) {
            *counts.entry(detection.label).or_default() += 1;
        }
        let counts: Vec<String> =
            counts.into_iter().map(|(label, count)| format!("{label}={count}")).collect();
        self.with_header(
            DETECTIONS_HEADER,
            format!("{}; {}", model.config().name, counts.join(", ")),
        )
    }
}
