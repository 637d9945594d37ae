//! The tract operator for kernels, other than convolutions, that map one channels-last image to another.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use std::sync::Arc;

use tract_core::internal::*;
use tract_core::ops::cnn::MaxPool;
use tract_core::ops::nn::{NearestUpsample, Resize};

use crate::convolution::Padding;
use crate::image::Image;
use crate::layout::Layout;
use crate::max_pooling::MaxPooling;
use crate::resampling::{Resampling, Taps};

/// An operator from one channels-last image, `[1, height, width, channels]`, to another with as many channels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ChannelsLastImageOp {
    MaxPooling(MaxPooling),
    Resampling(Resampling),
}

impl ChannelsLastImageOp {
    fn output(&self) -> Image {
        match self {
            Self::MaxPooling(pooling) => pooling.output,
            Self::Resampling(resampling) => resampling.output,
        }
    }
}

impl Eq for ChannelsLastImageOp {}

impl Op for ChannelsLastImageOp {
    fn name(&self) -> StaticName {
        match self {
            Self::MaxPooling(_) => "MaxPooling".into(),
            Self::Resampling(_) => "Resampling".into(),
        }
    }

    op_as_typed_op!();
}

impl EvalOp for ChannelsLastImageOp {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Image { height, width, channels } = self.output();
        let input = inputs[0].try_as_plain_ram()?;
        // SAFETY: the kernels write every element.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&[1, height, width, channels])? };
        let mut target = output.try_as_plain_ram_mut()?;
        let target = target.as_slice_mut::<f32>()?;
        match self {
            Self::MaxPooling(pooling) => pooling.run(input.as_slice()?, target),
            Self::Resampling(resampling) => resampling.run(input.as_slice()?, target),
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for ChannelsLastImageOp {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let Image { height, width, channels } = self.output();
        Ok(tvec!(f32::fact([1, height, width, channels])))
    }

    as_op!();
}

/// Replaces max pooling.
pub(crate) fn replace_max_pool(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &MaxPool,
) -> TractResult<Option<TypedModelPatch>> {
    let pool = &op.pool_spec;
    let layout =
        if pool.data_format.c_is_last() { Layout::ChannelsLast } else { Layout::ChannelsFirst };
    let Some((input, output)) = images(model, node, layout)? else { return Ok(None) };
    let is_plain = pool.dilations().iter().all(|dilation| *dilation == 1);
    if !is_plain || !pool.data_format.has_n() || op.with_index_outputs.is_some() {
        return Ok(None);
    }
    let size = pool.computed_padding(&[input.height, input.width]);
    let (top, left) = (size[0].pad_before, size[1].pad_before);
    let (window, strides) = ((pool.kernel_shape[0], pool.kernel_shape[1]), pool.strides());
    // Otherwise, a window could lie outside of the image.
    let is_covered = |windows: usize, stride: usize, padding: usize, window: usize, size: usize| {
        padding < window && (windows - 1) * stride < size + padding
    };
    if !is_covered(output.height, strides[0], top, window.0, input.height)
        || !is_covered(output.width, strides[1], left, window.1, input.width)
    {
        return Ok(None);
    }
    let padding = Padding { top, left, ..Padding::default() };
    let strides = (strides[0], strides[1]);
    let kernel =
        ChannelsLastImageOp::MaxPooling(MaxPooling { input, output, window, strides, padding });
    layout.replace(model, node, name, kernel).map(Some)
}

/// Replaces a resize whose scales or sizes are constant.
pub(crate) fn replace_resize(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &Resize,
) -> TractResult<Option<TypedModelPatch>> {
    let scales = op.optional_scales_input.and_then(|input| node.inputs.get(input));
    let scales = match scales {
        Some(scales) => model.outlet_fact(*scales)?.konst.as_ref(),
        None => None,
    };
    let scales = match scales {
        Some(scales) => scales.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
        None => Vec::new(),
    };
    // tract resamples along the other axes, too, unless their scale is 1.
    let layout = |layout: Layout| {
        scales.len() != 4 || [0, layout.channels()].iter().all(|axis| scales[*axis] == 1.0)
    };
    let taps = |axis: usize, input: usize, output: usize| {
        let scale = match scales.get(axis) {
            Some(scale) if scales.len() == 4 => *scale,
            _ => output as f32 / input as f32,
        };
        if input == output && scale == 1.0 {
            return unchanged(input);
        }
        let plan = op.plan_axis(scale, input, output);
        let taps = plan.indices.into_iter().zip(plan.weights).collect::<Vec<_>>();
        let windows = taps.chunks_exact(plan.window);
        windows.map(|taps| taps.iter().copied().filter(|tap| tap.1 != 0.0).collect()).collect()
    };
    replace_resampling(model, node, name, layout, taps)
}

/// Replaces the repetition of pixels.
pub(crate) fn replace_nearest_upsample(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &NearestUpsample,
) -> TractResult<Option<TypedModelPatch>> {
    let taps = |axis: usize, _: usize, output: usize| {
        (0..output).map(|index| vec![(index / op.scales[axis], 1.0)]).collect()
    };
    replace_resampling(model, node, name, |_| true, taps)
}

/// The most rows or columns of an output whose taps are computed when the network is loaded.
const MAX_SIDE: usize = 1 << 14;

/// Replaces an operator that changes the height and width of an image. `fits` says whether it leaves the channels
/// of a layout alone, and `taps` gives the taps along an axis, from the sizes before and after.
fn replace_resampling(
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    fits: impl Fn(Layout) -> bool,
    taps: impl Fn(usize, usize, usize) -> Vec<Taps>,
) -> TractResult<Option<TypedModelPatch>> {
    for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
        let Some((input, output)) = images(model, node, layout)? else { continue };
        if !fits(layout) || output.height.max(output.width) > MAX_SIDE {
            continue;
        }
        let [height, width] = layout.axes();
        let rows: Arc<[Taps]> = taps(height, input.height, output.height).into();
        let columns = taps(width, input.width, output.width).into();
        let kernel = ChannelsLastImageOp::Resampling(Resampling { input, output, rows, columns });
        return layout.replace(model, node, name, kernel).map(Some);
    }
    Ok(None)
}

/// Each row from itself.
fn unchanged(size: usize) -> Vec<Taps> {
    (0..size).map(|index| vec![(index, 1.0)]).collect()
}

/// The images before and after an operator, if there is one of each, of known size, with equally many channels.
fn images(
    model: &TypedModel,
    node: &TypedNode,
    layout: Layout,
) -> TractResult<Option<(Image, Image)>> {
    let image = |fact: &TypedFact| {
        let shape = fact.shape.as_concrete()?;
        let is_plain = fact.datum_type == f32::datum_type() && shape.len() == 4 && shape[0] == 1;
        (is_plain && fact.shape.volume() != 0.to_dim()).then(|| layout.image(shape))
    };
    let (input, output) = (model.outlet_fact(node.inputs[0])?, &node.outputs[0].fact);
    let Some((input, output)) = image(input).zip(image(output)) else { return Ok(None) };
    Ok((input.channels == output.channels).then_some((input, output)))
}
