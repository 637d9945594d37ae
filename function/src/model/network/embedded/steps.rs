//! A network as the list of its operators, in the order in which they run.
//!
//! tract's own plan keeps each operator as a `TypedOp`, whose table of methods names the code that optimises and
//! serialises it. An `EvalOp` can only run, so `spotter bake` removes the rest of tract from the component.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{EvalContext, EvalOp};
use tract_onnx::tract_core::ops::source::TypedSource;

/// The operators of a network with one input.
pub(in crate::model) struct Steps {
    steps: Vec<Step>,
    outputs: Vec<OutletId>,
    input: usize,
    nodes: usize,
    /// The number of the first node. tract's matrix product keeps its scratch memory by thread and node, so the nodes of
    /// all networks have different numbers.
    first_node: usize,
}

/// How many nodes have numbers.
static NODES: AtomicUsize = AtomicUsize::new(0);

struct Step {
    node: usize,
    name: String,
    operator: Box<dyn EvalOp + Send + Sync>,
    inputs: Vec<Value>,
}

/// An output of a node, as the input of another.
struct Value {
    outlet: OutletId,
    /// Whether this is the last use, after which the memory is free for the operator's own output.
    is_last_use: bool,
}

impl Steps {
    /// Takes the operators out of a model. `None` if only tract's plan can run it: an operator keeps state, or a shape
    /// is known only when the network runs.
    ///
    /// # Errors
    /// If the model is inconsistent.
    pub(super) fn new(model: &TypedModel) -> TractResult<Option<Self>> {
        let order = model.eval_order_opt_ram()?;
        let &[input] = model.input_outlets()? else { return Ok(None) };
        let context = EvalContext::out_of_plan();
        for &node in &order {
            let node = model.node(node);
            let has_fixed_shapes =
                node.outputs.iter().all(|output| output.fact.shape.as_concrete().is_some());
            if !has_fixed_shapes || node.op.state(&context)?.is_some() {
                return Ok(None);
            }
        }
        let operators = order.iter().filter(|node| !model.node(**node).op_is::<TypedSource>());
        let mut steps: Vec<Step> = operators.map(|node| Step::new(model.node(*node))).collect();
        let outputs = model.output_outlets()?.to_vec();
        let mut used_later = outputs.clone();
        let inputs_from_last = steps.iter_mut().rev().flat_map(|step| step.inputs.iter_mut().rev());
        for value in inputs_from_last {
            value.is_last_use = !used_later.contains(&value.outlet);
            used_later.push(value.outlet);
        }
        let nodes = model.nodes().len();
        let first_node = NODES.fetch_add(nodes, Ordering::Relaxed);
        Ok(Some(Self { steps, outputs, input: input.node, nodes, first_node }))
    }

    /// Runs the operators.
    ///
    /// # Errors
    /// If an operator fails.
    pub(super) fn run(&self, input: TValue) -> TractResult<TVec<TValue>> {
        let mut values: Vec<TVec<Option<TValue>>> = vec![TVec::new(); self.nodes];
        values[self.input] = tvec!(Some(input));
        for step in &self.steps {
            let inputs = step.inputs.iter().map(|value| {
                let slot = values[value.outlet.node].get_mut(value.outlet.slot);
                let value = slot
                    .and_then(|slot| if value.is_last_use { slot.take() } else { slot.clone() });
                value.with_context(|| format!("an input of {} is missing", step.name))
            });
            let inputs = inputs.collect::<TractResult<_>>()?;
            let node_id = self.first_node + step.node;
            let context = EvalContext { node_id, ..EvalContext::out_of_plan() };
            let outputs = step.operator.eval(&context, inputs);
            let outputs = outputs.with_context(|| step.name.clone())?;
            values[step.node] = outputs.into_iter().map(Some).collect();
        }
        let outputs = self.outputs.iter().map(|outlet| {
            let output = values[outlet.node].get(outlet.slot).cloned().flatten();
            output.context("the network has no such output")
        });
        outputs.collect()
    }
}

impl Step {
    fn new(node: &TypedNode) -> Self {
        let inputs = node.inputs.iter();
        let inputs = inputs.map(|&outlet| Value { outlet, is_last_use: false }).collect();
        Self { node: node.id, name: node.name.clone(), operator: node.op.clone(), inputs }
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::prelude::*;
    use tract_onnx::tract_core::internal::ToDim;
    use tract_onnx::tract_core::ops::math::add;

    use super::Steps;
    use crate::model::ModelConfig;

    /// A model that adds its input to itself.
    fn doubled(shape: &[TDim]) -> TypedModel {
        let mut model = TypedModel::default();
        let input = model.add_source("input", f32::fact(shape)).unwrap();
        let outputs = model.wire_node("sum", add(), &[input, input]).unwrap();
        model.select_output_outlets(&outputs).unwrap();
        model
    }

    #[test]
    fn the_shipped_networks_give_what_tracts_plan_gives() {
        for name in ["ssdlite_mobilenet_v2", "nanodet_g"] {
            compare_with_plan(name);
        }
    }

    fn compare_with_plan(name: &str) {
        // Cargo runs a crate's tests in its folder.
        let folder = std::path::Path::new("model").join(name);
        let config = std::fs::read_to_string(folder.join("model.toml")).unwrap();
        let config = ModelConfig::parse(&config).unwrap();
        let onnx = std::fs::read(folder.join("model.onnx")).unwrap();
        let model = super::super::optimised(&config, &onnx).unwrap();
        let mut input = super::super::to_tract(config.input.blank_tensor()).unwrap();
        let mut bytes = input.try_as_plain_ram_mut().unwrap();
        if let Ok(elements) = bytes.as_slice_mut::<u8>() {
            (0..=250).cycle().zip(elements).for_each(|(value, element)| *element = value);
        }
        let steps = Steps::new(&model).unwrap().unwrap();
        let outputs = steps.run(input.clone().into()).unwrap();
        let plan = model.into_runnable().unwrap();
        assert_eq!(outputs, plan.run(tvec!(input.into())).unwrap(), "{name}");
    }

    #[test]
    fn a_value_that_is_used_twice_is_there_twice() {
        let mut model = doubled(&[3.to_dim()]);
        let sum = model.output_outlets().unwrap()[0];
        let more = model.wire_node("more", add(), &[sum, sum]).unwrap()[0];
        // An output that another operator uses, and an input that is an output.
        let input = model.input_outlets().unwrap()[0];
        model.select_output_outlets(&[sum, more, input]).unwrap();
        let steps = Steps::new(&model).unwrap().unwrap();
        let outputs = steps.run(tensor1(&[1f32, 2.0, 3.0]).into()).unwrap();
        let expected = [[2f32, 4.0, 6.0], [4.0, 8.0, 12.0], [1.0, 2.0, 3.0]];
        for (output, expected) in outputs.iter().zip(expected) {
            assert_eq!(**output, tensor1(&expected));
        }
        assert_eq!(outputs.len(), 3);
    }

    #[test]
    fn a_shape_that_is_known_only_at_run_time_needs_tracts_plan() {
        let symbols = SymbolScope::default();
        let model = doubled(&[symbols.sym("n").to_dim()]);
        assert!(Steps::new(&model).unwrap().is_none());
    }
}
