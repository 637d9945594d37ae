//! A model: its manifest, its labels, and its network.

pub mod head;
mod labels;
mod manifest;
mod network;

use anyhow::Context;

pub use head::{Decoder, Head, Output, Suppression};
pub use labels::Labels;
pub use manifest::{
    ChannelOrder, Element, Filter, Fit, Input, Layout, Manifest, Position, Thresholds,
};
pub use network::Outputs;

use crate::error::Error;
use crate::options::Options;
use crate::tensor::Tensor;
use network::Network;

/// The content of a model's files.
pub struct ModelFiles<'f> {
    pub manifest: &'f str,
    pub labels: &'f str,
    /// Empty if the host runs the network.
    pub network: &'f [u8],
}

/// A network that is ready to run, with its manifest and labels.
pub struct Model {
    manifest: Manifest,
    labels: Labels,
    network: Network,
}

impl Model {
    /// Parses the files and loads the network. This can take seconds, so it is done once, before the snapshot.
    ///
    /// # Errors
    /// If a file is invalid. The error names it.
    pub fn load(files: &ModelFiles) -> anyhow::Result<Self> {
        let manifest = Manifest::parse(files.manifest).context("model.toml")?;
        let labels = Labels::parse(files.labels, &manifest).context("labels.txt")?;
        let network = Network::load(&manifest, labels.columns(), files.network)?;
        Ok(Self { manifest, labels, network })
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
        self.network.run(input)
    }

    /// Reads the outputs of one run as candidates.
    pub fn decoder<'o>(&'o self, outputs: &'o Outputs) -> Box<dyn Decoder + 'o> {
        let Manifest { input, output, .. } = &self.manifest;
        output.head.decoder(outputs, self.labels.columns(), input)
    }
}
