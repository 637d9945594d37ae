//! Gathers every n-th pixel of an image for each of several starting points, as more channels of a smaller image: YOLOX
//! and the first versions of YOLOv5 start so, under the name of “focus”.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::downsample::Downsample;

use crate::image::Image;
use crate::layout::{Layout, TO_CHANNELS_FIRST};
use crate::parallel::Rows;

/// From a channels-first image to a channels-last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpaceToDepth {
    input: Image,
    output: Image,
    /// The distances between the pixels that become neighbours, vertically and horizontally.
    strides: (usize, usize),
    /// The first row and column of each group of the output's channels.
    starts: Vec<(usize, usize)>,
}

impl SpaceToDepth {
    /// Computes `output`, `[height, width, groups * channels]`, from `input`, `[channels, height, width]`.
    ///
    /// # Panics
    /// If `input` does not have its image's volume.
    fn run(&self, input: &[f32], output: &mut [f32]) {
        let Image { height, width, channels } = self.input;
        assert_eq!(input.len(), self.input.volume(), "input");
        let rows = Rows { count: self.output.height, operations: self.output.volume() };
        rows.compute(output, |rows, output| {
            let targets = output.chunks_exact_mut(self.output.width * self.output.channels);
            for (y, target) in rows.zip(targets) {
                for (group, (top, left)) in self.starts.iter().enumerate() {
                    for channel in 0..channels {
                        let row = (channel * height + top + y * self.strides.0) * width;
                        let source = input[row + left..row + width].iter().step_by(self.strides.1);
                        let target = target[group * channels + channel..].iter_mut();
                        let target = target.step_by(self.output.channels);
                        source.zip(target).for_each(|(source, target)| *target = *source);
                    }
                }
            }
        });
    }
}

impl Op for SpaceToDepth {
    fn name(&self) -> StaticName {
        "SpaceToDepth".into()
    }

    op_as_typed_op!();
}

impl EvalOp for SpaceToDepth {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Image { height, width, channels } = self.output;
        let input = inputs[0].try_as_plain_ram()?;
        // SAFETY: `run` writes every element.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&[1, height, width, channels])? };
        let mut target = output.try_as_plain_ram_mut()?;
        self.run(input.as_slice()?, target.as_slice_mut()?);
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for SpaceToDepth {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let Image { height, width, channels } = self.output;
        Ok(tvec!(f32::fact([1, height, width, channels])))
    }

    as_op!();
}

/// Replaces a concatenation along the channels of every n-th pixel of one image.
pub(crate) fn replace(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &TypedConcat,
) -> TractResult<Option<TypedModelPatch>> {
    let layout = Layout::ChannelsFirst;
    if op.axis != layout.channels() || node.outputs[0].fact.rank() != 4 {
        return Ok(None);
    }
    let parts: Vec<Part> = node.inputs.iter().map(|input| Part::new(model, *input)).collect();
    let Some(first) = parts.first() else { return Ok(None) };
    let is_alike = |part: &Part| part.source == first.source && part.strides == first.strides;
    let (source, target) = (model.outlet_fact(first.source)?, &node.outputs[0].fact);
    let (Some(input), Some(output)) = (image(source), image(target)) else { return Ok(None) };
    let covers = |start: usize, stride: usize, count: usize, size: usize| {
        start < size && (size - start).div_ceil(stride) == count
    };
    let is_covered = |part: &Part| {
        covers(part.start.0, first.strides.0, output.height, input.height)
            && covers(part.start.1, first.strides.1, output.width, input.width)
    };
    let fits = first.strides != (1, 1)
        && parts.iter().all(|part| is_alike(part) && is_covered(part))
        && output.channels == parts.len() * input.channels;
    if !fits {
        return Ok(None);
    }
    let starts = parts.iter().map(|part| part.start).collect();
    let gathered = SpaceToDepth { input, output, strides: first.strides, starts };
    let mut patch = TypedModelPatch::new("every n-th pixel of an image");
    let wire = patch.tap_model(model, first.source)?;
    let wire = patch.wire_node(name, gathered, &[wire])?[0];
    let wire = patch.wire_node(format!("{name}.channels_first"), TO_CHANNELS_FIRST, &[wire])?[0];
    patch.shunt_outside(model, node.id.into(), wire)?;
    Ok(Some(patch))
}

/// The channels-first image of f32 that a fact describes, if its size is known.
fn image(fact: &TypedFact) -> Option<Image> {
    let shape = fact.shape.as_concrete()?;
    let is_plain = fact.datum_type == f32::datum_type() && shape.len() == 4 && shape[0] == 1;
    (is_plain && shape.iter().all(|side| *side > 0)).then(|| Layout::ChannelsFirst.image(shape))
}

/// Every n-th pixel of an image.
struct Part {
    source: OutletId,
    strides: (usize, usize),
    start: (usize, usize),
}

impl Part {
    /// What an outlet takes from the image that it comes from: everything, unless it downsamples height or width.
    fn new(model: &TypedModel, outlet: OutletId) -> Self {
        let mut part = Self { source: outlet, strides: (1, 1), start: (0, 0) };
        loop {
            let node = model.node(part.source.node);
            let Some(Downsample { axis, stride, modulo }) = node.op_as::<Downsample>() else {
                return part;
            };
            let axes = Layout::ChannelsFirst.axes();
            let (strides, start) = if *axis == axes[0] {
                (&mut part.strides.0, &mut part.start.0)
            } else if *axis == axes[1] {
                (&mut part.strides.1, &mut part.start.1)
            } else {
                return part;
            };
            let Some(stride) = usize::try_from(*stride).ok().filter(|stride| *stride > 0) else {
                return part;
            };
            // The axis may have been downsampled after this operator, too.
            let first = start.checked_mul(stride).and_then(|first| first.checked_add(*modulo));
            let (Some(first), Some(distance)) = (first, strides.checked_mul(stride)) else {
                return part;
            };
            (*start, *strides) = (first, distance);
            part.source = node.inputs[0];
        }
    }
}
