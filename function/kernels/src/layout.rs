//! Keeps images channels-last from one kernel to the next.
//!
//! The image of a kernel is moved to channels-last before it, and back after it. The rules carry the second move past
//! the operators that follow, until it meets another kernel's first move and the two cancel.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;

use crate::image::Image;

pub(crate) const TO_CHANNELS_LAST: AxisOp = AxisOp::Move(1, 3);

pub(crate) const TO_CHANNELS_FIRST: AxisOp = AxisOp::Move(3, 1);

/// The order of an image's axes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Layout {
    ChannelsFirst,
    ChannelsLast,
}

impl Layout {
    /// The axes of the height and of the width.
    pub(crate) fn axes(self) -> [usize; 2] {
        match self {
            Self::ChannelsFirst => [2, 3],
            Self::ChannelsLast => [1, 2],
        }
    }

    pub(crate) fn channels(self) -> usize {
        match self {
            Self::ChannelsFirst => 1,
            Self::ChannelsLast => 3,
        }
    }

    /// The image in a tensor of this shape.
    pub(crate) fn image(self, shape: &[usize]) -> Image {
        let [height, width] = self.axes().map(|axis| shape[axis]);
        Image { height, width, channels: shape[self.channels()] }
    }

    /// A patch that puts an operator from one channels-last image to another in the place of a node.
    pub(crate) fn replace(
        self,
        model: &TypedModel,
        node: &TypedNode,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
    ) -> TractResult<TypedModelPatch> {
        let mut patch = TypedModelPatch::new("an operator runs on channels-last images");
        let mut wire = patch.tap_model(model, node.inputs[0])?;
        if matches!(self, Self::ChannelsFirst) {
            wire = patch.wire_node(format!("{name}.channels_last"), TO_CHANNELS_LAST, &[wire])?[0];
        }
        wire = patch.wire_node(name, op, &[wire])?[0];
        if matches!(self, Self::ChannelsFirst) {
            wire =
                patch.wire_node(format!("{name}.channels_first"), TO_CHANNELS_FIRST, &[wire])?[0];
        }
        patch.shunt_outside(model, node.id.into(), wire)?;
        Ok(patch)
    }
}

/// The channels-last image that an outlet is a move of, if it is one.
fn channels_last(model: &TypedModel, outlet: OutletId) -> Option<OutletId> {
    let node = model.node(outlet.node);
    (node.op_as::<AxisOp>() == Some(&TO_CHANNELS_FIRST)).then(|| node.inputs[0])
}

/// Removes a move to channels-last that follows a move to channels-first. tract would do so too, but it searches the
/// whole network for each one.
pub(crate) fn cancel(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &AxisOp,
) -> TractResult<Option<TypedModelPatch>> {
    let image = channels_last(model, node.inputs[0]);
    let Some(image) = image.filter(|_| *op == TO_CHANNELS_LAST) else { return Ok(None) };
    let mut patch = TypedModelPatch::new("two moves that cancel each other");
    let image = patch.tap_model(model, image)?;
    patch.shunt_outside(model, node.id.into(), image)?;
    Ok(Some(patch))
}

/// Carries moves to channels-first past an operator whose inputs are all moved or constant.
pub(crate) fn sink<O: TypedOp>(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &O,
) -> TractResult<Option<TypedModelPatch>> {
    let is_moved = |input: &OutletId| channels_last(model, *input).is_some();
    let is_constant = |input: &OutletId| {
        model.outlet_fact(*input).is_ok_and(|fact| fact.konst.is_some() && fact.rank() == 4)
    };
    let (mut inputs, first) = (node.inputs.iter(), node.inputs.iter().position(is_moved));
    let Some(first) = first else { return Ok(None) };
    if !inputs.all(|input| is_moved(input) || is_constant(input)) || node.outputs.len() != 1 {
        return Ok(None);
    }
    let change = op.change_axes(model, node, InOut::In(first), &TO_CHANNELS_LAST)?;
    let is_uniform = |change: &AxisChangeConsequence| {
        change.wire_changes.iter().all(|(_, op)| *op == TO_CHANNELS_LAST)
    };
    let Some(change) = change.filter(is_uniform) else { return Ok(None) };
    let mut patch = TypedModelPatch::new("an operator works on channels-last images");
    let mut wires = tvec!();
    for (index, input) in node.inputs.iter().enumerate() {
        if let Some(image) = channels_last(model, *input) {
            wires.push(patch.tap_model(model, image)?);
        } else {
            let constant = patch.tap_model(model, *input)?;
            let name = format!("{name}.channels_last.{index}");
            wires.push(patch.wire_node(name, TO_CHANNELS_LAST, &[constant])?[0]);
        }
    }
    let op = change.substitute_op.unwrap_or_else(|| node.op.clone());
    let wire = patch.wire_node(name, op, &wires)?;
    let wire = patch.wire_node(format!("{name}.channels_first"), TO_CHANNELS_FIRST, &wire)?[0];
    patch.shunt_outside(model, node.id.into(), wire)?;
    Ok(Some(patch))
}

/// Carries a swap of the last two of three axes before a concatenation, where [`flatten`] can remove it.
pub(crate) fn raise(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &AxisOp,
) -> TractResult<Option<TypedModelPatch>> {
    let concat = model.node(node.inputs[0].node);
    let Some(TypedConcat { axis: axis @ (1 | 2) }) = concat.op_as::<TypedConcat>() else {
        return Ok(None);
    };
    let has_one_use = model.single_succ(concat.id)?.is_some();
    if !swaps(op) || concat.outputs[0].fact.rank() != 3 || !has_one_use {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::new("a swap before a concatenation");
    let mut wires = tvec!();
    for (index, input) in concat.inputs.iter().enumerate() {
        let input = patch.tap_model(model, *input)?;
        wires.push(patch.wire_node(format!("{name}.{index}"), op.clone(), &[input])?[0]);
    }
    let wire = patch.wire_node(name, TypedConcat { axis: 3 - axis }, &wires)?[0];
    patch.shunt_outside(model, node.id.into(), wire)?;
    Ok(Some(patch))
}

/// Whether the operator swaps the second axis and the third.
fn swaps(op: &AxisOp) -> bool {
    matches!(op, AxisOp::Move(1, 2) | AxisOp::Move(2, 1))
}

/// Removes the moves of an image whose rows are joined, `[1, height * width, channels]`: detectors' heads end this way.
pub(crate) fn flatten(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    _: &str,
    op: &AxisOp,
) -> TractResult<Option<TypedModelPatch>> {
    let joined = model.node(node.inputs[0].node);
    let Some(AxisOp::Reshape(2, from, to)) = joined.op_as::<AxisOp>() else { return Ok(None) };
    let Some(image) = channels_last(model, joined.inputs[0]) else { return Ok(None) };
    if from.len() != 2 || to.len() != 1 || !swaps(op) {
        return Ok(None);
    }
    let join = AxisOp::Reshape(1, from.clone(), to.clone());
    TypedModelPatch::replace_single_op(model, node, &[image], join).map(Some)
}
