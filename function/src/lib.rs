//! Object detection as a pure pipeline, from the bytes of a picture to labelled boxes.
//!
//! ```text
//! bytes ▸ picture::decode ▸ preprocess ▸ Model::run ▸ non_maximum_suppression ▸ reply
//! ```
//!
//! Only [`component`], a thin shell that is compiled for wasm, deals with WebAssembly and HTTP. All other
//! modules are also built and tested natively.

pub mod annotate;
pub mod api;
pub mod detections;
pub mod error;
pub mod model;
pub mod non_maximum_suppression;
pub mod options;
pub mod picture;
pub mod preprocess;
pub mod tensor;

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(target_arch = "wasm32")]
mod snapshot;

// The component's allocator, whose tests run natively.
#[cfg(all(test, not(target_arch = "wasm32")))]
#[path = "snapshot/heaps/mod.rs"]
mod heaps;

use std::time::Instant;

use picture::Purpose;
use serde::Serialize;

pub use detections::{BoundingBox, Detection};
pub use error::Error;
pub use model::Model;
pub use options::Options;
pub use picture::{ImageSize, Picture};

/// The result for one picture: its detections, and the time of each step.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report<'m> {
    /// Name of the model, from its `model.toml`.
    pub model: &'m str,
    /// Size of the upright picture. Boxes are in its pixels.
    pub image: ImageSize,
    /// Sorted by confidence, highest first.
    pub detections: Vec<Detection<'m>>,
    /// Wall-clock time of each step.
    pub timings_ms: Timings,
}

/// Milliseconds spent in each step of the pipeline.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timings {
    pub decode: f64,
    pub resize: f64,
    pub inference: f64,
    pub postprocess: f64,
    pub total: f64,
}

/// Detects objects in one picture. Also returns the decoded picture, for drawing.
///
/// # Errors
/// If the picture is rejected, for a reason in [`Error`].
pub fn detect<'m>(
    model: &'m Model,
    bytes: &[u8],
    options: &Options,
) -> Result<(Report<'m>, Picture), Error> {
    let min_size = |picture| preprocess::min_decoded_size(picture, &model.config().input);
    let purpose = match options.annotate {
        Some(options::Annotation::As(_)) => Purpose::Drawing,
        _ => Purpose::Resizing(&min_size),
    };
    detect_in(model, options, || picture::decode(bytes, purpose))
}

/// Detects objects in pixels that were never encoded, and are upright.
///
/// # Errors
/// If there are too many pixels.
pub fn detect_in_pixels<'m>(
    model: &'m Model,
    pixels: image::RgbImage,
    options: &Options,
) -> Result<(Report<'m>, Picture), Error> {
    detect_in(model, options, || Picture::from_pixels(pixels))
}

fn detect_in<'m>(
    model: &'m Model,
    options: &Options,
    decoded: impl FnOnce() -> Result<Picture, Error>,
) -> Result<(Report<'m>, Picture), Error> {
    let mut watch = Stopwatch::start();
    let picture = decoded()?;
    let decode = watch.lap();
    let (tensor, transform) = preprocess::to_tensor(&picture, &model.config().input)?;
    let resize = watch.lap();
    let outputs = model.run(tensor)?;
    let inference = watch.lap();
    let detections = non_maximum_suppression::select(&outputs, &transform, model, options);
    let postprocess = watch.lap();
    let report = Report {
        model: &model.config().name,
        image: picture.upright_size(),
        detections,
        timings_ms: Timings { decode, resize, inference, postprocess, total: watch.total() },
    };
    Ok((report, picture))
}

/// Measures consecutive steps in milliseconds, rounded to 0.01.
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
