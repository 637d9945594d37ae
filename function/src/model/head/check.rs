//! Whether a network's outputs are what its head takes: their types and shapes before the first run, and their values
//! after a run on a blank picture.

use anyhow::{bail, ensure};
use tract_onnx::prelude::{DatumType, TypedFact};

use super::{Decoder, Head};
use crate::model::{Input, Outputs};

/// What one output must be.
pub(in crate::model) struct Expectation<'h> {
    name: &'h str,
    types: &'static [DatumType],
    shape: Vec<Dimension>,
}

/// One axis of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Dimension {
    /// The number of boxes, which is the same in all outputs.
    Boxes,
    Is(usize),
}

impl<'h> Expectation<'h> {
    pub(super) fn floats<const RANK: usize>(name: &'h str, shape: [Dimension; RANK]) -> Self {
        Self { name, types: &[DatumType::F32], shape: shape.to_vec() }
    }

    /// Class numbers, one for each box.
    pub(super) fn labels(name: &'h str) -> Self {
        const NUMBERS: [DatumType; 3] = [DatumType::F32, DatumType::I32, DatumType::I64];
        Self { name, types: &NUMBERS, shape: vec![Dimension::Boxes] }
    }

    /// Whether an output is as expected. Of its shape, an unknown axis is `None`. Returns the number of boxes, if it is
    /// known.
    fn check(
        &self,
        datum_type: DatumType,
        shape: &[Option<usize>],
        labels: usize,
    ) -> anyhow::Result<Option<usize>> {
        ensure!(
            self.types.contains(&datum_type),
            "output `{}` is {}, but it must be {}: cast it before you export the network",
            self.name,
            type_name(datum_type),
            self.types.iter().copied().map(type_name).collect::<Vec<_>>().join(" or ")
        );
        let without_batch = match shape {
            [Some(1) | None, rest @ ..] if rest.len() == self.shape.len() => rest,
            all => all,
        };
        let fits = |(expected, found): (&Dimension, &Option<usize>)| match (expected, found) {
            (Dimension::Is(expected), Some(found)) => expected == found,
            _ => true,
        };
        let is_as_expected = without_batch.len() == self.shape.len()
            && self.shape.iter().zip(without_batch).all(fits);
        if !is_as_expected {
            bail!(
                "output `{}` has the shape {}; with {labels} labels it must be {}",
                self.name,
                bracketed(shape.iter().map(|axis| axis.map_or("?".to_owned(), |n| n.to_string()))),
                bracketed(["1".to_owned()].into_iter().chain(self.shape.iter().map(|dimension| {
                    match dimension {
                        Dimension::Boxes => "N".to_owned(),
                        Dimension::Is(length) => length.to_string(),
                    }
                })))
            );
        }
        let boxes = self.shape.iter().position(|dimension| *dimension == Dimension::Boxes);
        Ok(boxes.and_then(|axis| without_batch[axis]))
    }
}

/// Checks the types and shapes that the graph states.
///
/// # Errors
/// If one does not fit. The error names the output, its shape, and what is expected.
pub(in crate::model) fn check_facts(
    head: &Head,
    input: &Input,
    labels: usize,
    facts: &[&TypedFact],
) -> anyhow::Result<()> {
    let outputs = facts.iter().map(|fact| {
        let axes = fact.shape.iter().map(|axis| axis.as_i64().and_then(|n| n.try_into().ok()));
        (fact.datum_type, axes.collect())
    });
    check(head, input, labels, outputs)
}

/// Checks the shapes and values of a run on a blank picture.
///
/// # Errors
/// If a shape does not fit, a value is not a number, or what should be a probability is none.
pub(in crate::model) fn check_values(
    head: &Head,
    input: &Input,
    labels: usize,
    outputs: &Outputs,
) -> anyhow::Result<()> {
    let shapes = outputs.shapes().map(|shape| shape.iter().copied().map(Some).collect());
    // Labels have been converted.
    check(head, input, labels, shapes.map(|shape| (DatumType::F32, shape)))?;
    for (index, name) in head.outputs().into_iter().enumerate() {
        let is_number = outputs.values(index).iter().all(|value| !value.is_nan());
        ensure!(is_number, "output `{name}` contains NaN for a blank picture");
    }
    check_probabilities(head.decoder(outputs, labels, input).as_ref(), head)
}

fn check(
    head: &Head,
    input: &Input,
    labels: usize,
    outputs: impl Iterator<Item = (DatumType, Vec<Option<usize>>)>,
) -> anyhow::Result<()> {
    let mut first: Option<(&str, usize)> = None;
    let expectations = head.expectations(labels, input);
    for (expectation, (datum_type, shape)) in expectations.iter().zip(outputs) {
        let Some(boxes) = expectation.check(datum_type, &shape, labels)? else { continue };
        let (name, expected) = *first.get_or_insert((expectation.name, boxes));
        ensure!(
            boxes == expected,
            "output `{name}` has {expected} boxes, but `{}` has {boxes}",
            expectation.name
        );
    }
    Ok(())
}

fn check_probabilities(decoder: &dyn Decoder, head: &Head) -> anyhow::Result<()> {
    // Rounding may exceed the range by a hair.
    const HAIR: f32 = 1e-3;
    let mut range = (f32::INFINITY, f32::NEG_INFINITY);
    decoder.probabilities(&mut |value| range = (range.0.min(value), range.1.max(value)));
    let (least, most) = range;
    ensure!(
        least >= -HAIR && most <= 1.0 + HAIR || least > most,
        "the scores in `{}` are {least} to {most} for a blank picture, but they must be probabilities, 0 to 1: export \
         the network with its sigmoid or softmax",
        head.outputs().last().copied().unwrap_or_default()
    );
    Ok(())
}

fn bracketed(axes: impl Iterator<Item = String>) -> String {
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}

fn type_name(datum_type: DatumType) -> String {
    format!("{datum_type:?}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use tract_onnx::prelude::DatumType;

    use super::{Dimension, Expectation};

    fn refused(expectation: &Expectation, datum_type: DatumType, shape: &[usize]) -> String {
        let shape: Vec<_> = shape.iter().copied().map(Some).collect();
        expectation.check(datum_type, &shape, 3).expect_err("it must be refused").to_string()
    }

    #[test]
    fn an_output_of_another_type_or_shape_is_named_with_what_is_expected() {
        let scores = Expectation::floats("scores", [Dimension::Boxes, Dimension::Is(3)]);
        assert_eq!(
            refused(&scores, DatumType::F16, &[1, 10, 3]),
            "output `scores` is f16, but it must be f32: cast it before you export the network"
        );
        assert_eq!(
            refused(&scores, DatumType::F32, &[1, 10, 4]),
            "output `scores` has the shape [1, 10, 4]; with 3 labels it must be [1, N, 3]"
        );
        refused(&scores, DatumType::F32, &[2, 10, 3]);
        refused(&scores, DatumType::F32, &[10]);
        let shape = [Some(1), None, Some(3)];
        assert_eq!(scores.check(DatumType::F32, &shape, 3).expect("it fits"), None);
        assert_eq!(scores.check(DatumType::F32, &shape[1..], 3).expect("it fits"), None);
        let labels = Expectation::labels("labels");
        let shape = [Some(1), Some(7)];
        assert_eq!(labels.check(DatumType::I64, &shape, 3).expect("it fits"), Some(7));
    }
}
