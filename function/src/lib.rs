//! Object detection as a pure pipeline: the bytes of a picture in, labelled boxes out.
//!
//! ```text
//! bytes ▸ picture::decode ▸ tensor::fit ▸ Model::run ▸ detections::select ▸ reply
//! ```
//!
//! Nothing here knows of WebAssembly, sockets or HTTP servers but [`component`], the thin shell
//! that is compiled for wasm only; every other module is built and tested natively.

pub mod annotate;
pub mod api;
pub mod detections;
pub mod error;
pub mod model;
pub mod options;
pub mod picture;
pub mod tensor;

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(target_arch = "wasm32")]
mod snapshot;

use std::time::Instant;

use serde::Serialize;

pub use detections::{BoundingBox, Detection};
pub use error::Error;
pub use model::Model;
pub use options::Options;
pub use picture::Picture;

/// What one picture gave: its detections, and how long each step took.
#[derive(Debug, Serialize)]
pub struct Report<'m> {
    /// Name of the model, from its `model.toml`.
    pub model: &'m str,
    /// Size of the upright picture; boxes are in its pixels.
    pub image: ImageSize,
    /// Sorted by confidence, highest first.
    pub detections: Vec<Detection<'m>>,
    /// Wall-clock time of each step.
    pub timings_ms: Timings,
}

/// Width and height in pixels, after the EXIF orientation is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ImageSize {
    pub width: u32,
    pub height: u32,
}

impl ImageSize {
    /// Square pixels.
    pub fn area(self) -> f32 {
        self.width as f32 * self.height as f32
    }
}

/// Milliseconds spent in each step of the pipeline.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Timings {
    pub decode: f64,
    pub resize: f64,
    pub inference: f64,
    pub postprocess: f64,
    pub total: f64,
}

/// Detects objects in the bytes of one picture; also gives the decoded picture back, for drawing.
///
/// # Errors
/// Every way a picture can be refused: see [`Error`].
pub fn detect<'m>(
    model: &'m Model,
    bytes: &[u8],
    options: &Options,
) -> Result<(Report<'m>, Picture), Error> {
    let mut watch = Stopwatch::start();
    let picture =
        picture::decode(bytes, matches!(options.annotate, Some(options::Annotation::As(_))))?;
    let decode = watch.lap();
    let (tensor, placement) = tensor::fit(&picture, &model.manifest().input)?;
    let resize = watch.lap();
    let candidates = model.run(tensor)?;
    let inference = watch.lap();
    let detections = detections::select(&candidates, &placement, model, options);
    let postprocess = watch.lap();
    let report = Report {
        model: &model.manifest().name,
        image: picture.upright_size(),
        detections,
        timings_ms: Timings { decode, resize, inference, postprocess, total: watch.total() },
    };
    Ok((report, picture))
}

/// Times consecutive steps in milliseconds, to a hundredth.
struct Stopwatch {
    started: Instant,
    lap_started: Instant,
}

impl Stopwatch {
    fn start() -> Self {
        let now = Instant::now();
        Self { started: now, lap_started: now }
    }

    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = now - self.lap_started;
        self.lap_started = now;
        milliseconds(lap)
    }

    fn total(&self) -> f64 {
        milliseconds(self.started.elapsed())
    }
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}
