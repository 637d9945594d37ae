//! A model: its configuration, its labels, and its network.

mod config;
pub mod head;
mod input;
mod labels;
mod network;

use anyhow::Context;

pub use config::{MAX_DETECTIONS, ModelConfig, Thresholds};
pub use head::{Decoder, Head, OutputConfig, Suppression};
pub use input::{ChannelOrder, ElementType, Fit, InputConfig, Layout, Position, ResizeFilter};
pub use labels::Labels;
pub use network::Outputs;

use crate::error::Error;
use crate::tensor::Tensor;
use network::Network;

/// The content of a model's files.
pub struct ModelFiles<'f> {
    /// `model.toml`.
    pub config: &'f str,
    pub labels: &'f str,
    /// Empty if the host runs the network.
    pub network: &'f [u8],
}

/// A network that is ready to run, with its configuration and labels.
pub struct Model {
    config: ModelConfig,
    labels: Labels,
    network: Network,
}

impl Model {
    /// Parses the files and loads the network. This can take seconds, so it is done once, before the snapshot.
    ///
    /// # Errors
    /// If a file is invalid. The error names it.
    pub fn load(files: &ModelFiles) -> anyhow::Result<Self> {
        let config = ModelConfig::parse(files.config).context("model.toml")?;
        let labels = Labels::parse(files.labels, &config).context("labels.txt")?;
        let network = Network::load(&config, labels.columns(), files.network)?;
        Ok(Self { config, labels, network })
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The model's default thresholds.
    pub fn thresholds(&self) -> &Thresholds {
        &self.config.thresholds
    }

    /// Runs the network on an input tensor from [`crate::preprocess::to_tensor`].
    ///
    /// # Errors
    /// [`Error::Internal`] if the network fails, which does not depend on the client's input.
    pub fn run(&self, input: Tensor) -> Result<Outputs, Error> {
        self.network.run(input)
    }

    /// Reads the outputs of one run as candidates.
    pub fn decoder<'o>(&'o self, outputs: &'o Outputs) -> Box<dyn Decoder + 'o> {
        let ModelConfig { input, output, .. } = &self.config;
        output.head.decoder(outputs, self.labels.columns(), input)
    }
}
