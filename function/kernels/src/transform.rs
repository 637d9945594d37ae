//! Replaces a network's operators with those of this crate, convolutions first.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use std::borrow::Cow;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::model::Rewriter;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::Sub;
use tract_core::ops::nn::Softmax;
use tract_core::optim::Optimizer;

use crate::activation::Activation;
use crate::convolution::{Convolution, Padding};
use crate::depthwise::{Depthwise, LeadingPadding, Stride};
use crate::expanded::Expanded;
use crate::gemm::{PackedWeights, Weights};
use crate::image::Image;
use crate::image_operator::{replace_max_pool, replace_nearest_upsample, replace_resize};
use crate::instructions::Instructions;
use crate::layout::{self, TO_CHANNELS_FIRST, TO_CHANNELS_LAST};
use crate::operator::{ChannelsLastConvolution, Fused, Kernel};
use crate::softmax;

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
        .rewrite(&(), &mut model)?;
    layout_rules().rewrite(&(), &mut model)?;
    // After the moves, which tract knows how to carry behind its own softmax.
    rules().with_rule_for("softmax", softmax::replace).rewrite(&(), &mut model)?;
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

/// A two-dimensional convolution of one image of known size, with constant weights.
struct Geometry {
    /// The convolution's input, or the tensor from which `means` are subtracted to get it.
    source: OutletId,
    means: Vec<f32>,
    input: Image,
    output: Image,
    kernel: (usize, usize),
    strides: (usize, usize),
    padding: Padding,
    /// `[output channels, input channels of a group, kernel height, kernel width]`
    weights: Arc<Tensor>,
    /// `[output channels]`
    bias: Vec<f32>,
}

impl Geometry {
    /// `None` if the convolution has another number of dimensions, more than one image, or weights that are not
    /// constant.
    fn from_convolution(
        model: &TypedModel,
        node: &TypedNode,
        op: &Conv,
    ) -> TractResult<Option<Self>> {
        let pool = &op.pool_spec;
        let fact = model.outlet_fact(node.inputs[0])?;
        let constant =
            |input: usize| model.outlet_fact(node.inputs[input]).map(|fact| fact.konst.clone());
        let (Some(shape), Some(weights), Some(bias)) =
            (fact.shape.as_concrete(), constant(1)?, constant(2)?)
        else {
            return Ok(None);
        };
        let is_float = fact.datum_type == f32::datum_type() && op.q_params.is_none();
        let is_plain = pool.dilations().iter().all(|dilation| *dilation == 1);
        let has_images =
            shape.len() == 4 && pool.data_format.has_n() && pool.kernel_shape.len() == 2;
        if !is_float || !is_plain || !has_images || op.kernel_fmt != KernelFormat::OIHW {
            return Ok(None);
        }
        let shape = pool.data_format.shape(shape)?;
        if shape.n() != Some(&1) {
            return Ok(None);
        }
        let size = pool.computed_padding(shape.hw_dims());
        let input =
            Image { height: shape.hw_dims()[0], width: shape.hw_dims()[1], channels: *shape.c() };
        let output = Image {
            height: size[0].convoluted,
            width: size[1].convoluted,
            channels: op.output_channels(),
        };
        let padding = Padding {
            top: size[0].pad_before,
            bottom: size[0].pad_after,
            left: size[1].pad_before,
            right: size[1].pad_after,
        };
        let bias = bias.cast_to::<f32>()?;
        let bias = bias.try_as_plain_ram()?;
        let bias = bias.as_slice::<f32>()?;
        let bias = if bias.len() == 1 { vec![bias[0]; output.channels] } else { bias.to_vec() };
        let strides = pool.strides();
        let is_dense = op.group == 1;
        let subtraction = if is_dense { subtraction(model, node, shape.c_axis())? } else { None };
        let (source, means) = subtraction.unwrap_or((node.inputs[0], Vec::new()));
        Ok(Some(Self {
            source,
            means,
            input,
            output,
            kernel: (pool.kernel_shape[0], pool.kernel_shape[1]),
            strides: (strides[0], strides[1]),
            padding,
            weights,
            bias,
        }))
    }

    fn kernel(&self, op: &Conv) -> Option<Kernel> {
        if op.group == 1 {
            return self.dense().map(Kernel::Dense);
        }
        let is_depthwise = op.group == self.input.channels && op.group == self.output.channels;
        is_depthwise.then(|| self.depthwise().map(Kernel::Depthwise)).flatten()
    }

    fn dense(&self) -> Option<Convolution> {
        let weights = self.weights.try_as_plain_ram().ok()?;
        let weights = weights.as_slice::<f32>().ok()?;
        // The weights of a window's row must have the channels innermost. Those of a 1×1 kernel already do.
        let area = self.kernel.0 * self.kernel.1;
        let values: Cow<[f32]> = if area == 1 {
            weights.into()
        } else {
            let windows = weights.chunks_exact(self.input.channels * area);
            windows.map(|window| transposed(window, area)).collect::<Vec<_>>().concat().into()
        };
        let packed = PackedWeights::new(
            Weights {
                values: &values,
                bias: &self.bias,
                segments: self.kernel.0,
                segment_length: self.kernel.1 * self.input.channels,
            },
            Instructions::widest(),
        );
        Some(Convolution {
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            strides: self.strides,
            padding: self.padding,
            weights: Arc::new(packed),
            means: self.means.as_slice().into(),
        })
    }

    /// `None` unless the kernel is 3×3, the stride is the same in both directions, and at most one row and column of
    /// zeros surround the image.
    fn depthwise(&self) -> Option<Depthwise> {
        let stride = match self.strides {
            (1, 1) => Stride::One,
            (2, 2) => Stride::Two,
            _ => return None,
        };
        let margin = |size: usize| match size {
            0 => Some(LeadingPadding::None),
            1 => Some(LeadingPadding::One),
            _ => None,
        };
        let Padding { top, bottom, left, right } = self.padding;
        let (top, left) = (margin(top)?, margin(left)?);
        margin(bottom)?;
        margin(right)?;
        let channels = self.input.channels;
        if self.kernel != (3, 3)
            || !channels.is_multiple_of(4)
            || self.input.width < 2 && left == LeadingPadding::None
        {
            return None;
        }
        let weights = self.weights.try_as_plain_ram().ok()?;
        let weights = weights.as_slice::<f32>().ok()?;
        Some(Depthwise {
            input: self.input,
            output: self.output,
            stride,
            top,
            left,
            weights: transposed(weights, 9).into(),
            bias: self.bias.as_slice().into(),
            zeros: vec![0.0; self.input.width * channels].into(),
        })
    }
}

/// The transpose of a matrix, `[rows, columns]`.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns;
    let mut transposed = vec![0.0; matrix.len()];
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            transposed[column * rows + row] = value;
        }
    }
    transposed
}

/// The input and the subtrahend, if a constant for each channel is subtracted from an image and the difference has no
/// other use: most networks begin so.
fn subtraction(
    model: &TypedModel,
    node: &TypedNode,
    channel_axis: usize,
) -> TractResult<Option<(OutletId, Vec<f32>)>> {
    let before = model.node(node.inputs[0].node);
    let subtracts = before.op_as::<TypedBinOp>().is_some_and(|TypedBinOp(op, _)| op.is::<Sub>());
    if !subtracts || model.single_succ(before.id)?.is_none() {
        return Ok(None);
    }
    let (image, means) =
        (model.outlet_fact(before.inputs[0])?, model.outlet_fact(before.inputs[1])?);
    let Some(means) = means.konst.as_ref() else { return Ok(None) };
    let shape = &before.outputs[0].fact.shape;
    let is_of_channels = means.rank() == shape.rank()
        && means.shape()[channel_axis].to_dim() == shape[channel_axis]
        && means.len() == means.shape()[channel_axis];
    if !is_of_channels || image.shape != *shape || means.datum_type() != f32::datum_type() {
        return Ok(None);
    }
    let means = means.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    Ok(Some((before.inputs[0], means)))
}
