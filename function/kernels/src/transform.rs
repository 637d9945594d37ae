//! Replaces a network's operators with those of this crate, convolutions first.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use tract_core::internal::*;
use tract_core::model::Rewriter;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cnn::Conv;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::nn::Softmax;
use tract_core::optim::Optimizer;

use crate::activation::Activation;
use crate::expanded::Expanded;
use crate::geometry::Geometry;
use crate::image_operator::{replace_max_pool, replace_nearest_upsample, replace_resize};
use crate::layout::{self, TO_CHANNELS_FIRST, TO_CHANNELS_LAST};
use crate::operator::{ChannelsLastConvolution, Fused, Kernel, absorb_function};
use crate::{element_wise, softmax, space_to_depth};

/// Optimises a network: this crate's kernels run its operators where one fits, and tract's run all else.
///
/// # Errors
/// If tract cannot optimise the network.
pub fn optimise(mut model: TypedModel) -> TractResult<TypedModel> {
    Optimizer::prop_consts().optimize(&mut model)?;
    rules().with_rule_for("channels-last", replace).rewrite(&(), &mut model)?;
    rules().with_rule_for("moves", layout::cancel).rewrite(&(), &mut model)?;
    let mut model = model.into_decluttered()?;
    rules()
        .with_rule_for("max-pooling", replace_max_pool)
        .with_rule_for("resize", replace_resize)
        .with_rule_for("upsample", replace_nearest_upsample)
        .with_rule_for("space-to-depth", space_to_depth::replace)
        .rewrite(&(), &mut model)?;
    layout_rules().rewrite(&(), &mut model)?;
    // After the moves, which tract knows how to carry behind its own operators.
    rules()
        .with_rule_for("softmax", softmax::replace)
        .with_rule_for("element-wise", element_wise::replace)
        .rewrite(&(), &mut model)?;
    rules().with_rule_for("function", absorb_function).rewrite(&(), &mut model)?;
    model.optimize()?;
    // Last, since each convolution has absorbed its activation by now.
    rules().with_rule_for("in-bands", join).rewrite(&(), &mut model)?;
    Ok(model)
}

fn rules() -> Rewriter<()> {
    Rewriter::default()
}

/// The rules that keep images channels-last from one kernel to the next.
fn layout_rules() -> Rewriter<()> {
    rules()
        .with_rule_for("concat", layout::sink::<TypedConcat>)
        .with_rule_for("slice", layout::sink::<Slice>)
        .with_rule_for("binary", layout::sink::<TypedBinOp>)
        .with_rule_for("element-wise", layout::sink::<ElementWiseOp>)
        .with_rule_for("softmax", layout::sink::<Softmax>)
        .with_rule_for("moves", layout::cancel)
        .with_rule_for("heads", layout::raise)
        .with_rule_for("flatten", layout::flatten)
}

/// Joins a depthwise convolution with the pointwise one before it, if nothing else uses the image between them and the
/// image is large.
fn join(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &ChannelsLastConvolution,
) -> TractResult<Option<TypedModelPatch>> {
    let Kernel::Depthwise(depthwise) = &op.kernel else { return Ok(None) };
    let before = model.node(node.inputs[0].node);
    let Some(ChannelsLastConvolution { kernel: Kernel::Dense(expansion), activation }) =
        before.op_as::<ChannelsLastConvolution>()
    else {
        return Ok(None);
    };
    if before.inputs.len() > 1 || model.single_succ(before.id)?.is_none() {
        return Ok(None);
    }
    let Some(expanded) = Expanded::new(expansion, *activation, depthwise) else { return Ok(None) };
    let mut patch = TypedModelPatch::new("the image between two convolutions is never whole");
    let input = patch.tap_model(model, before.inputs[0])?;
    let joined = ChannelsLastConvolution { kernel: Kernel::Expanded(expanded), ..op.clone() };
    let output = patch.wire_node(name, joined, &[input])?;
    patch.shunt_outside(model, node.id.into(), output[0])?;
    Ok(Some(patch))
}

/// Replaces one convolution and the operators that it can absorb, if a kernel fits. Its input is moved to channels-last,
/// and its output back; [`layout`] removes the moves between neighbours.
fn replace(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Conv,
) -> TractResult<Option<TypedModelPatch>> {
    let Some(geometry) = Geometry::from_convolution(model, node, op)? else { return Ok(None) };
    let Some(kernel) = geometry.kernel(op) else { return Ok(None) };
    let mut patch = TypedModelPatch::new("a convolution runs on channels-last images");
    let mut wire = patch.tap_model(model, geometry.source)?;
    let is_channels_first = !op.pool_spec.data_format.c_is_last();
    if is_channels_first {
        wire = patch.wire_node(format!("{name}.channels_last"), TO_CHANNELS_LAST, &[wire])?[0];
    }
    let convolution = ChannelsLastConvolution { kernel, activation: Activation::IDENTITY };
    let Fused { convolution, residual, last } = convolution.fused_with_successors(model, node)?;
    let mut inputs = tvec!(wire);
    if let Some(residual) = residual {
        let mut wire = patch.tap_model(model, residual)?;
        if is_channels_first {
            wire = patch.wire_node(format!("{name}.residual"), TO_CHANNELS_LAST, &[wire])?[0];
        }
        inputs.push(wire);
    }
    let mut wire = patch.wire_node(name, convolution, &inputs)?[0];
    if is_channels_first {
        wire = patch.wire_node(format!("{name}.channels_first"), TO_CHANNELS_FIRST, &[wire])?[0];
    }
    patch.shunt_outside(model, last.into(), wire)?;
    Ok(Some(patch))
}
