//! The results of `spotter detect` in the formats of other tools: CSV, COCO's results, YOLO's labels.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::output::{DetectReply, Detection, Outcome, Report, Writer};

/// A line for each detection, and one for each picture that failed.
pub(super) struct Csv<W: Write>(csv::Writer<W>);

impl<W: Write> Csv<W> {
    /// Writes the names of the columns.
    pub(super) fn new(out: W) -> anyhow::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record([
            "file",
            "label",
            "class_id",
            "confidence",
            "x_min",
            "y_min",
            "x_max",
            "y_max",
            "error",
        ])?;
        Ok(Self(writer))
    }
}

impl<W: Write> Writer for Csv<W> {
    fn write(&mut self, picture: &str, outcome: Outcome) -> anyhow::Result<()> {
        match outcome {
            Ok(DetectReply { report, .. }) => {
                for Detection { label, class_id, confidence, bounding_box: frame } in
                    report.detections
                {
                    let corners = [frame.x_min, frame.y_min, frame.x_max, frame.y_max];
                    self.0.serialize((picture, label, class_id, confidence, corners, ""))?;
                }
            }
            Err(failure) => {
                let mut record = [picture, "", "", "", "", "", "", "", ""];
                record[8] = &failure.message;
                self.0.write_record(record)?;
            }
        }
        self.0.flush()?;
        Ok(())
    }
}

/// COCO's result format (<https://cocodataset.org/#format-results>): one list of all boxes. The name of a picture's
/// file is its `image_id`, as a number if it is one.
pub(super) struct Coco<W> {
    pub(super) out: W,
    pub(super) results: Vec<Value>,
}

impl<W: Write> Writer for Coco<W> {
    fn write(&mut self, picture: &str, outcome: Outcome) -> anyhow::Result<()> {
        let Ok(DetectReply { report, .. }) = outcome else { return Ok(()) };
        let image_id = image_id(picture);
        self.results.extend(report.detections.into_iter().map(|detection| {
            let frame = detection.bounding_box;
            json!({
                "image_id": image_id,
                "category_id": detection.class_id,
                "bbox": [frame.x_min, frame.y_min, frame.x_max - frame.x_min, frame.y_max - frame.y_min],
                "score": detection.confidence,
            })
        }));
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        writeln!(self.out, "{}", serde_json::to_string(&self.results)?)?;
        Ok(())
    }
}

fn image_id(picture: &str) -> Value {
    let stem = stem(picture);
    stem.parse::<u64>().map_or_else(|_| stem.into(), Value::from)
}

fn stem(picture: &str) -> &str {
    Path::new(picture).file_stem().and_then(|stem| stem.to_str()).unwrap_or(picture)
}

/// YOLO's label files, as Ultralytics' `save_txt` and `save_conf` write them: `NAME.txt` for each picture, with a line
/// for each box: class, centre, width and height in fractions of the picture, confidence.
pub(super) struct Yolo {
    pub(super) folder: PathBuf,
}

impl Writer for Yolo {
    fn write(&mut self, picture: &str, outcome: Outcome) -> anyhow::Result<()> {
        let Ok(DetectReply { report, .. }) = outcome else { return Ok(()) };
        let path = self.folder.join(format!("{}.txt", stem(picture)));
        std::fs::write(&path, lines(&report))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn lines(report: &Report) -> String {
    let (width, height) = (report.image.width, report.image.height);
    let line = |detection: &Detection| {
        let frame = &detection.bounding_box;
        format!(
            "{} {:.6} {:.6} {:.6} {:.6} {:.4}\n",
            detection.class_id,
            (frame.x_min + frame.x_max) / 2.0 / width,
            (frame.y_min + frame.y_max) / 2.0 / height,
            (frame.x_max - frame.x_min) / width,
            (frame.y_max - frame.y_min) / height,
            detection.confidence
        )
    };
    report.detections.iter().map(line).collect()
}
