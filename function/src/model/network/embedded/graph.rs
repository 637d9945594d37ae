//! Checks that the graph in `model.onnx` has the input and the outputs that `model.toml` names.

use anyhow::ensure;
use tract_onnx::prelude::{DatumType, InferenceFact, InferenceModel, OutletId};
use tract_onnx::tract_hir::infer::Factoid;

use super::{datum_type, type_name};
use crate::model::ModelConfig;

/// Compares the names, and the type and shape of the input, with what the graph states.
///
/// # Errors
/// If a name is not in the graph, or the input differs. The error says what the graph has.
pub(super) fn check(graph: &InferenceModel, config: &ModelConfig) -> anyhow::Result<()> {
    let input = &config.input;
    let names = |outlets: &[OutletId]| -> Vec<String> {
        let name = |outlet: &OutletId| {
            let node = graph.node(outlet.node).name.clone();
            graph.outlet_label(*outlet).map_or(node, str::to_owned)
        };
        outlets.iter().map(name).collect()
    };
    let inputs = graph.input_outlets()?;
    let position = names(inputs).iter().position(|name| *name == input.name);
    ensure!(
        position.is_some(),
        "the graph has no input `{}`; its inputs are {}",
        input.name,
        names(inputs).join(", ")
    );
    if let Some(outlet) = position.and_then(|position| inputs.get(position)) {
        check_input(graph.outlet_fact(*outlet)?, config)?;
    }
    for output in config.output.head.outputs() {
        let is_there =
            graph.find_outlet_label(output).is_some() || graph.node_by_name(output).is_ok();
        ensure!(
            is_there,
            "the graph has no output `{output}`; its outputs are {}",
            names(graph.output_outlets()?).join(", ")
        );
    }
    Ok(())
}

fn check_input(fact: &InferenceFact, config: &ModelConfig) -> anyhow::Result<()> {
    let input = &config.input;
    let stated: Option<DatumType> = fact.datum_type.concretize();
    let expected = datum_type(input.element);
    let axes: Vec<Option<usize>> = fact
        .shape
        .dims()
        .map(|axis| axis.concretize().and_then(|axis| axis.as_i64()?.try_into().ok()))
        .collect();
    let fits = axes.is_empty()
        || axes.len() == 4
            && axes
                .iter()
                .zip(input.shape())
                .all(|(axis, side)| axis.is_none_or(|axis| axis == side));
    let shape: Vec<String> =
        axes.iter().map(|axis| axis.map_or("?".to_owned(), |axis| axis.to_string())).collect();
    ensure!(
        fits && stated.is_none_or(|stated| stated == expected),
        "input `{}` is {} [{}] in the graph, but model.toml describes {} {:?}: correct `element`, `layout`, `width` or \
         `height`",
        input.name,
        stated.map_or("of any type".to_owned(), type_name),
        shape.join(", "),
        type_name(expected),
        input.shape()
    );
    Ok(())
}
