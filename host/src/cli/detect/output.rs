//! The results of `spotter detect`, as text and as JSON.

use std::io::{ErrorKind, Write};

use anstyle::{AnsiColor, Style};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::detector::DetectError;

/// The reply of `POST /detect` for one picture, or why there is none.
pub(super) type Outcome = Result<DetectReply, DetectError>;

/// A reply, whole and in the parts that formats use.
pub(super) struct DetectReply {
    pub(super) json: Value,
    pub(super) report: Report,
}

#[derive(Deserialize)]
pub(super) struct Report {
    pub(super) image: ImageSize,
    pub(super) detections: Vec<Detection>,
}

#[derive(Deserialize)]
pub(super) struct ImageSize {
    pub(super) width: f64,
    pub(super) height: f64,
}

#[derive(Deserialize)]
pub(super) struct Detection {
    pub(super) label: String,
    pub(super) class_id: u32,
    pub(super) confidence: f64,
    #[serde(rename = "box")]
    pub(super) bounding_box: BoundingBox,
}

#[derive(Deserialize)]
pub(super) struct BoundingBox {
    pub(super) x_min: f64,
    pub(super) y_min: f64,
    pub(super) x_max: f64,
    pub(super) y_max: f64,
}

impl DetectReply {
    /// Parses a reply.
    ///
    /// # Errors
    /// If it is not one of `POST /detect`.
    pub(super) fn parse(body: &[u8]) -> serde_json::Result<Self> {
        let json: Value = serde_json::from_slice(body)?;
        Ok(Self { report: Report::deserialize(&json)?, json })
    }
}

/// Writes results in one format, in the order of the pictures.
pub(super) trait Writer {
    /// Writes the result for one picture.
    fn write(&mut self, picture: &str, outcome: Outcome) -> anyhow::Result<()>;

    /// Writes what follows the last result.
    fn finish(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The style of a picture's name.
const NAME_STYLE: Style = Style::new().bold();

/// The style of a label.
const LABEL_STYLE: Style = AnsiColor::Cyan.on_default();

/// A table for people to read. The stream removes styles where they are not wanted.
pub(super) struct Table<W>(pub(super) W);

impl<W: Write> Writer for Table<W> {
    fn write(&mut self, picture: &str, outcome: Outcome) -> anyhow::Result<()> {
        let Ok(reply) = outcome else { return Ok(()) };
        writeln!(self.0, "{NAME_STYLE}{picture}{NAME_STYLE:#}")?;
        if reply.report.detections.is_empty() {
            writeln!(self.0, "  nothing found")?;
        }
        for Detection { label, confidence, bounding_box: frame, .. } in reply.report.detections {
            writeln!(
                self.0,
                "  {LABEL_STYLE}{label:<16}{LABEL_STYLE:#} {:>5.1} %   x {:>6.1} to {:>6.1}   y {:>6.1} to {:>6.1}",
                confidence * 100.0,
                frame.x_min,
                frame.x_max,
                frame.y_min,
                frame.y_max
            )?;
        }
        Ok(())
    }
}

/// The reply for a single picture as it is, and those for several as a list with their files.
pub(super) struct Json<W> {
    pub(super) out: W,
    pub(super) results: Vec<Value>,
}

impl<W: Write> Writer for Json<W> {
    fn write(&mut self, picture: &str, outcome: Outcome) -> anyhow::Result<()> {
        self.results.push(match outcome {
            Ok(reply) => json!({"file": picture, "reply": reply.json}),
            Err(failure) => json!({"file": picture, "error": failure.message}),
        });
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let value = match self.results.as_mut_slice() {
            [only] if only["reply"].is_object() => only["reply"].take(),
            _ => Value::Array(std::mem::take(&mut self.results)),
        };
        writeln!(self.out, "{}", serde_json::to_string_pretty(&value)?)?;
        Ok(())
    }
}

/// One line of JSON for each picture, as soon as there is a result.
pub(super) struct JsonLines<W>(pub(super) W);

impl<W: Write> Writer for JsonLines<W> {
    fn write(&mut self, picture: &str, outcome: Outcome) -> anyhow::Result<()> {
        let mut line = Map::new();
        line.insert("file".to_owned(), picture.into());
        match outcome {
            Ok(DetectReply { json: Value::Object(reply), .. }) => line.extend(reply),
            Ok(DetectReply { json, .. }) => drop(line.insert("reply".to_owned(), json)),
            Err(DetectError { code, message, retry }) => {
                let mut error = json!({"code": code, "message": message});
                if retry {
                    error["retry"] = true.into();
                }
                line.insert("error".to_owned(), error);
            }
        }
        writeln!(self.0, "{}", Value::Object(line))?;
        self.0.flush()?;
        Ok(())
    }
}

/// Whether an error of a writer says that nobody reads the output any longer.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    let csv = error.downcast_ref::<csv::Error>().and_then(|error| match error.kind() {
        csv::ErrorKind::Io(error) => Some(error),
        _ => None,
    });
    io.or(csv).is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
