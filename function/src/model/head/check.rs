//! Checks that the types and shapes of a network's outputs are those that its head expects.

use anyhow::{bail, ensure};

use super::Head;
use crate::model::InputConfig;

/// The type and shape of one output.
pub(in crate::model) struct OutputFact {
    /// The name of the element type, in lower case: `f32`.
    pub(in crate::model) element: String,
    /// An unknown axis is `None`.
    pub(in crate::model) shape: Vec<Option<usize>>,
}

/// What one output must be.
pub(in crate::model) struct Expectation<'h> {
    name: &'h str,
    types: &'static [&'static str],
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
        Self { name, types: &["f32"], shape: shape.to_vec() }
    }

    /// Class numbers, one for each box.
    pub(super) fn labels(name: &'h str) -> Self {
        Self { name, types: &["f32", "i32", "i64"], shape: vec![Dimension::Boxes] }
    }

    /// Whether an output is as expected. Returns the number of boxes, if it is known.
    fn check(&self, fact: &OutputFact, labels: usize) -> anyhow::Result<Option<usize>> {
        let OutputFact { element, shape } = fact;
        ensure!(
            self.types.contains(&element.as_str()),
            "output `{}` is {element}, but it must be {}: cast it before you export the network",
            self.name,
            self.types.join(" or ")
        );
        let without_batch = match shape.as_slice() {
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

/// Checks the types and shapes of the outputs, in the order of [`Head::outputs`].
///
/// # Errors
/// If one does not fit. The error names the output, its shape, and what is expected.
pub(in crate::model) fn check_facts(
    head: &Head,
    input: &InputConfig,
    labels: usize,
    facts: impl Iterator<Item = OutputFact>,
) -> anyhow::Result<()> {
    let mut first: Option<(&str, usize)> = None;
    let expectations = head.expectations(labels, input);
    for (expectation, fact) in expectations.iter().zip(facts) {
        let Some(boxes) = expectation.check(&fact, labels)? else { continue };
        let (name, expected) = *first.get_or_insert((expectation.name, boxes));
        ensure!(
            boxes == expected,
            "output `{name}` has {expected} boxes, but `{}` has {boxes}",
            expectation.name
        );
    }
    Ok(())
}

fn bracketed(axes: impl Iterator<Item = String>) -> String {
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Dimension, Expectation, OutputFact};

    fn fact<const RANK: usize>(element: &str, shape: [Option<usize>; RANK]) -> OutputFact {
        OutputFact { element: element.to_owned(), shape: shape.to_vec() }
    }

    fn refused<const RANK: usize>(
        expectation: &Expectation,
        element: &str,
        shape: [usize; RANK],
    ) -> String {
        let fact = fact(element, shape.map(Some));
        expectation.check(&fact, 3).expect_err("it must be refused").to_string()
    }

    #[test]
    fn an_output_of_another_type_or_shape_is_named_with_what_is_expected() {
        let scores = Expectation::floats("scores", [Dimension::Boxes, Dimension::Is(3)]);
        assert_eq!(
            refused(&scores, "f16", [1, 10, 3]),
            "output `scores` is f16, but it must be f32: cast it before you export the network"
        );
        assert_eq!(
            refused(&scores, "f32", [1, 10, 4]),
            "output `scores` has the shape [1, 10, 4]; with 3 labels it must be [1, N, 3]"
        );
        refused(&scores, "f32", [2, 10, 3]);
        refused(&scores, "f32", [10]);
        let unknown = fact("f32", [Some(1), None, Some(3)]);
        assert_eq!(scores.check(&unknown, 3).expect("it fits"), None);
        let without_batch = fact("f32", [None, Some(3)]);
        assert_eq!(scores.check(&without_batch, 3).expect("it fits"), None);
        let labels = Expectation::labels("labels");
        let seven = fact("i64", [Some(1), Some(7)]);
        assert_eq!(labels.check(&seven, 3).expect("it fits"), Some(7));
    }
}
