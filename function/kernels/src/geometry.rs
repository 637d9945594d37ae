//! Reads a convolution of tract's, and makes the kernel that fits it.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use std::borrow::Cow;
use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::ops::math::Sub;

use crate::convolution::{Convolution, Padding};
use crate::depthwise::{Depthwise, LeadingPadding, Stride};
use crate::gemm::{PackedWeights, Weights};
use crate::image::Image;
use crate::instructions::Instructions;
use crate::large_depthwise::LargeDepthwise;
use crate::operator::Kernel;

/// A two-dimensional convolution of one image of known size, with constant weights.
pub(crate) struct Geometry {
    /// The convolution's input, or the tensor from which `means` are subtracted to get it.
    pub(crate) source: OutletId,
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
    pub(crate) fn from_convolution(
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
        if input.volume() == 0 || output.volume() == 0 {
            return Ok(None);
        }
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

    /// The kernel for the convolution, if one fits.
    pub(crate) fn kernel(&self, op: &Conv) -> Option<Kernel> {
        if op.group == 1 {
            return self.dense().map(Kernel::Dense);
        }
        let is_depthwise = op.group == self.input.channels && op.group == self.output.channels;
        if !is_depthwise || !self.input.channels.is_multiple_of(4) {
            return None;
        }
        let sliding = self.depthwise().map(Kernel::Depthwise);
        sliding.or_else(|| self.large_depthwise().map(Kernel::LargeDepthwise))
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
        if self.kernel != (3, 3) || self.input.width < 2 && left == LeadingPadding::None {
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

    fn large_depthwise(&self) -> Option<LargeDepthwise> {
        let weights = self.weights.try_as_plain_ram().ok()?;
        let weights = weights.as_slice::<f32>().ok()?;
        Some(LargeDepthwise {
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            strides: self.strides,
            padding: self.padding,
            weights: transposed(weights, self.kernel.0 * self.kernel.1).into(),
            bias: self.bias.as_slice().into(),
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
