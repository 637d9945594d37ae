//! A model: its manifest, its labels, and its network.

mod graph;
pub mod head;
mod labels;
mod manifest;
mod outputs;

use std::sync::Arc;

use anyhow::Context;
use tract_onnx::prelude::*;

pub use head::{Decoder, Head, Output, Suppression};
pub use labels::Labels;
pub use manifest::{
    ChannelOrder, Element, Filter, Fit, Input, Layout, Manifest, Position, Thresholds,
};
pub use outputs::Outputs;

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

impl Model {
    /// Parses and optimises the network. This takes seconds, so it is done once, before the snapshot.
    ///
    /// # Errors
    /// If a file is invalid. The error names it.
    pub fn load(files: &ModelFiles) -> anyhow::Result<Self> {
        let manifest = Manifest::parse(files.manifest).context("model.toml")?;
        let labels = Labels::parse(files.labels, &manifest).context("labels.txt")?;
        let plan = plan(&manifest, files.network).context("model.onnx")?;
        let graph = plan.model();
        let facts = graph.output_outlets()?.iter().map(|outlet| graph.outlet_fact(*outlet));
        let facts: Vec<_> = facts.collect::<TractResult<_>>().context("model.onnx")?;
        let Manifest { input, output, .. } = &manifest;
        head::check_facts(&output.head, input, labels.columns(), &facts).context("model.onnx")?;
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
    pub fn run(&self, input: Tensor) -> Result<Outputs, Error> {
        let internal = |error: TractError| Error::Internal(format!("{error:#}"));
        let outputs = self.plan.run(tvec!(input.into())).map_err(internal)?;
        Outputs::new(outputs).map_err(internal)
    }

    /// Reads the outputs of one run as candidates.
    pub fn decoder<'o>(&'o self, outputs: &'o Outputs) -> Box<dyn Decoder + 'o> {
        let Manifest { input, output, .. } = &self.manifest;
        output.head.decoder(outputs, self.labels.columns(), input)
    }

    /// Runs the network once on a blank input. This puts lazily built state into the snapshot, and rejects a
    /// model whose outputs are not what its head takes.
    fn warm_up(&self) -> anyhow::Result<()> {
        let Manifest { input, output, .. } = &self.manifest;
        let blank = crate::tensor::blank(input).map_err(anyhow::Error::msg)?;
        head::check_values(&output.head, input, self.labels.columns(), &self.run(blank)?)
    }
}

fn plan(manifest: &Manifest, network: &[u8]) -> anyhow::Result<Arc<TypedRunnableModel>> {
    let input = &manifest.input;
    let fact = InferenceFact::dt_shape(input.element.datum_type(), input.shape());
    let network = tract_onnx::onnx().model_for_read(&mut std::io::Cursor::new(network))?;
    graph::check(&network, manifest)?;
    let network = network
        .with_input_names([&input.name])?
        .with_input_fact(0, fact)?
        .with_outputs_by_name(manifest.output.head.outputs())?
        .into_typed()?;
    kernels::optimise(network)?.into_runnable()
}
