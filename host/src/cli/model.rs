//! `spotter model`: commands that help to prepare a model.

mod add;
mod check;
mod export;
mod manifest;
mod show;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::onnx::{Network, guess};
use spotter_nn::operators;
use spotter_progress::{print, print_message};

/// Prepare a model, and manage those of an application
#[derive(Args)]
pub(super) struct Model {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    Inspect(Inspect),
    Check(check::Check),
    Add(Box<add::Add>),
    List(show::List),
    Show(show::Show),
}

/// Describe an ONNX file, and print a draft of its model.toml
#[derive(Args)]
struct Inspect {
    /// The ONNX file
    #[arg(value_name = "FILE.onnx")]
    network: PathBuf,
}

/// What follows the names of operators that the built-in engine lacks.
const WITHOUT_OPERATORS: &str = ": the built-in engine lacks these operators, so the network cannot be baked
        Export it with a lower opset; or, if these operators only suppress overlapping boxes, cut the network before
        them; or let ONNX Runtime run it
        (`--profile accelerated --nn-engine onnxruntime=PATH`). See \"If an operator is missing\" in docs/models.md";

impl Model {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            ModelCommand::Inspect(command) => command.run(),
            ModelCommand::Check(command) => command.run(),
            ModelCommand::Add(command) => command.run(),
            ModelCommand::List(command) => command.run(),
            ModelCommand::Show(command) => command.run(),
        }
    }
}

impl Inspect {
    /// The description goes to standard error, so that standard output is the file.
    fn run(self) -> anyhow::Result<()> {
        let path = self.network.display();
        let bytes = std::fs::read(&self.network).with_context(|| format!("cannot read {path}"))?;
        let network = Network::read(&bytes).with_context(|| path.to_string())?;
        for input in &network.inputs {
            print_message(&format!("input   {input}"));
        }
        for output in &network.outputs {
            print_message(&format!("output  {output}"));
        }
        let operators = network.operators.iter().map(|(name, count)| format!("{name} {count}"));
        print_message(&format!("uses    {}", operators.collect::<Vec<_>>().join(", ")));
        let missing = operators::missing(network.operators.keys().map(String::as_str));
        if !missing.is_empty() {
            print_message(&format!("missing {}{WITHOUT_OPERATORS}", missing.join(", ")));
        }
        let guess = guess::head(&network).with_context(|| {
            format!("the outputs of {path} match no head that `spotter` knows; docs/models.md lists the heads")
        })?;
        print_message(&format!("head    {}", guess.why));
        if let Some(labels) = guess.labels {
            print_message(&format!("labels  labels.txt needs {labels} lines"));
        }
        let name = self.network.file_stem().unwrap_or_default().to_string_lossy();
        let manifest = guess::manifest(&network, &name, &guess).with_context(|| {
            format!("{path} does not take a picture: its first input has no axis of three channels")
        })?;
        print(manifest.trim_end());
        Ok(())
    }
}
