//! Softmax along one axis. tract's own takes ten times as long for the short rows of detectors' heads.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use tract_core::internal::*;
use tract_core::ops::nn::{Softmax, SoftmaxKind};

use crate::element_wise::Function;

/// Longer rows are left to tract, whose kernels are made for them.
const MAX_ROW: usize = 64;

/// Softmax along an axis of a tensor, `[outer, length, inner]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AxisSoftmax {
    length: usize,
    /// The distance from one number to the next along the axis.
    inner: usize,
}

impl AxisSoftmax {
    fn run(&self, numbers: &mut [f32]) {
        let Self { length, inner } = *self;
        let (mut largest, mut sums) = (vec![0.0; inner], vec![0.0; inner]);
        for block in numbers.chunks_exact_mut(length * inner) {
            largest.copy_from_slice(&block[..inner]);
            for row in block.chunks_exact(inner) {
                for (largest, number) in largest.iter_mut().zip(row) {
                    *largest = largest.max(*number);
                }
            }
            for row in block.chunks_exact_mut(inner) {
                for (number, largest) in row.iter_mut().zip(&largest) {
                    *number -= largest;
                }
            }
        }
        Function::Exponential.apply(numbers);
        for block in numbers.chunks_exact_mut(length * inner) {
            sums.fill(0.0);
            for row in block.chunks_exact(inner) {
                for (sum, number) in sums.iter_mut().zip(row) {
                    *sum += *number;
                }
            }
            for row in block.chunks_exact_mut(inner) {
                for (number, sum) in row.iter_mut().zip(&sums) {
                    *number /= sum;
                }
            }
        }
    }
}

impl Op for AxisSoftmax {
    fn name(&self) -> StaticName {
        "Softmax".into()
    }

    op_as_typed_op!();
}

impl EvalOp for AxisSoftmax {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut tensor = args_1!(inputs).into_tensor();
        self.run(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?);
        Ok(tvec!(tensor.into_tvalue()))
    }
}

impl TypedOp for AxisSoftmax {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

/// Replaces a softmax of numbers along one axis of known length.
pub(crate) fn replace(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &Softmax,
) -> TractResult<Option<TypedModelPatch>> {
    let fact = model.outlet_fact(node.inputs[0])?;
    let (Some(shape), [axis], SoftmaxKind::Softmax) =
        (fact.shape.as_concrete(), &*op.axes, op.kind)
    else {
        return Ok(None);
    };
    // tract's importer lets an axis pass that the tensor does not have.
    let Some(&length) = shape.get(*axis) else { return Ok(None) };
    let inner = shape[axis + 1..].iter().product();
    let is_long = inner == 1 && length > MAX_ROW;
    if fact.datum_type != f32::datum_type() || shape.contains(&0) || is_long {
        return Ok(None);
    }
    let softmax = AxisSoftmax { length, inner };
    TypedModelPatch::replace_single_op(model, node, &node.inputs, softmax).map(Some)
}
