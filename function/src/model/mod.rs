//! A model: its manifest, its labels, and its network.

mod labels;
mod manifest;

use std::sync::Arc;

use anyhow::Context;
use tract_onnx::prelude::*;

pub use labels::Labels;
pub use manifest::{
    BoxFormat, ChannelOrder, Element, Fit, Input, Layout, Manifest, Output, Thresholds,
};

use crate::error::Error;
use crate::options::Options;

/// The content of a model's files.
pub struct ModelFiles<'f> {
    pub manifest: &'f str,
    pub labels: &'f str,
    pub network: &'f [u8],
}

/// A network that is ready to run, with its manifest and labels.
pub struct Model {
    manifest: Manifest,
    labels: Labels,
    plan: Arc<TypedRunnableModel>,
}

/// The network's output for one picture, before any threshold.
pub struct Candidates {
    /// f32 `[anchors, 4]`, in the manifest's box format.
    pub boxes: Tensor,
    /// f32 `[anchors, classes]`, 0 to 1.
    pub scores: Tensor,
}

impl Model {
    /// Parses and optimises the network. This takes seconds, so it is done once, before the snapshot.
    ///
    /// # Errors
    /// If a file is invalid. The error names it.
    pub fn load(files: &ModelFiles) -> anyhow::Result<Self> {
        let manifest = Manifest::parse(files.manifest).context("model.toml")?;
        let labels = Labels::parse(files.labels, &manifest).context("labels.txt")?;
        let plan = plan(&manifest, files.network).context("model.onnx")?;
        let model = Self { manifest, labels, plan };
        model.warm_up()?;
        Ok(model)
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The model's default options.
    pub fn default_options(&self) -> Options {
        Options::new(&self.manifest.thresholds)
    }

    /// Runs the network on an input tensor from [`crate::tensor::fit`].
    ///
    /// # Errors
    /// [`Error::Internal`] if the network fails, which does not depend on the client's input.
    pub fn run(&self, input: Tensor) -> Result<Candidates, Error> {
        let internal = |error: TractError| Error::Internal(format!("{error:#}"));
        let outputs = self.plan.run(tvec!(input.into())).map_err(internal)?;
        let mut outputs = outputs.into_iter().map(|value| {
            let mut tensor = value.into_tensor();
            tensor.remove_axis(0)?;
            Ok(tensor)
        });
        let mut next = || outputs.next().context("an output is missing")?;
        Ok(Candidates { boxes: next().map_err(internal)?, scores: next().map_err(internal)? })
    }

    /// Runs the network once on a blank input. This puts lazily built state into the snapshot, and rejects a
    /// model whose outputs do not match its labels.
    fn warm_up(&self) -> anyhow::Result<()> {
        let blank = crate::tensor::blank(&self.manifest.input).map_err(anyhow::Error::msg)?;
        let candidates = self.run(blank)?;
        let (boxes, scores) = (candidates.boxes.shape(), candidates.scores.shape());
        let expected = [boxes.first().copied().unwrap_or(0), self.labels.columns()];
        anyhow::ensure!(
            boxes.len() == 2 && boxes[1] == 4 && scores == expected,
            "boxes are {boxes:?} and scores {scores:?}; with {} labels they must be [N, 4] and [N, {}]",
            self.labels.columns(),
            self.labels.columns(),
        );
        Ok(())
    }
}

fn plan(manifest: &Manifest, network: &[u8]) -> anyhow::Result<Arc<TypedRunnableModel>> {
    let input = &manifest.input;
    let fact = InferenceFact::dt_shape(input.element.datum_type(), input.shape());
    let model = tract_onnx::onnx()
        .model_for_read(&mut std::io::Cursor::new(network))?
        .with_input_names([&input.name])?
        .with_input_fact(0, fact)?
        .with_outputs_by_name([&manifest.output.boxes, &manifest.output.scores])?
        .into_typed()?;
    kernels::optimise(model)?.into_runnable()
}
