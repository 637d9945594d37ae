//! Checks that the network's outputs for a blank picture are what the head expects.

use anyhow::ensure;

use super::{Decoder, Head, OutputFact, check_facts};
use crate::model::{InputConfig, Outputs};

/// Checks the shapes and values of a run on a blank picture.
///
/// # Errors
/// If a shape does not fit, a value is NaN, or a score is not a probability.
pub(in crate::model) fn check_values(
    head: &Head,
    input: &InputConfig,
    labels: usize,
    outputs: &Outputs,
) -> anyhow::Result<()> {
    check_facts(head, input, labels, converted_facts(outputs))?;
    for (index, name) in head.outputs().into_iter().enumerate() {
        let is_number = outputs.values(index).iter().all(|value| !value.is_nan());
        ensure!(is_number, "output `{name}` contains NaN for a blank picture");
    }
    check_probabilities(head.decoder(outputs, labels, input).as_ref(), head)
}

/// The facts of a run's outputs. Labels have been converted to f32.
fn converted_facts(outputs: &Outputs) -> impl Iterator<Item = OutputFact> {
    outputs.shapes().map(|shape| OutputFact {
        element: "f32".to_owned(),
        shape: shape.iter().copied().map(Some).collect(),
    })
}

fn check_probabilities(decoder: &dyn Decoder, head: &Head) -> anyhow::Result<()> {
    // Rounding can exceed the range slightly.
    const PROBABILITY_TOLERANCE: f32 = 1e-3;
    let mut range = (f32::INFINITY, f32::NEG_INFINITY);
    decoder.probabilities(&mut |value| range = (range.0.min(value), range.1.max(value)));
    let (least, most) = range;
    ensure!(
        least >= -PROBABILITY_TOLERANCE && most <= 1.0 + PROBABILITY_TOLERANCE || least > most,
        "the scores in `{}` are {least} to {most} for a blank picture, but they must be probabilities, 0 to 1: export \
         the network with its sigmoid or softmax",
        head.outputs().last().copied().unwrap_or_default()
    );
    Ok(())
}
