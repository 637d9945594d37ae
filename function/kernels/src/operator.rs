//! The tract operator that runs a convolution with one of the kernels, and fuses the operators that follow it.

#![allow(
    clippy::wildcard_imports,
    reason = "tract's macros need the names of its `internal` module"
)]

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Max, Min};
use tract_core::ops::nn::LeakyRelu;

use crate::activation::Activation;
use crate::convolution::Convolution;
use crate::depthwise::Depthwise;
use crate::element_wise::ElementWiseFunction;
use crate::expanded::Expanded;
use crate::gemm::Epilogue;
use crate::image::Image;
use crate::large_depthwise::LargeDepthwise;

/// A convolution of one channels-last image, `[1, height, width, channels]`, and optionally a residual of the
/// output's shape that is added before the activation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChannelsLastConvolution {
    pub(crate) kernel: Kernel,
    pub(crate) activation: Activation,
}

/// The kernel that runs a convolution.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kernel {
    Dense(Convolution),
    Depthwise(Depthwise),
    LargeDepthwise(LargeDepthwise),
    Expanded(Expanded),
}

impl Kernel {
    fn output(&self) -> Image {
        match self {
            Self::Dense(convolution) => convolution.output,
            Self::Depthwise(convolution) => convolution.output,
            Self::LargeDepthwise(convolution) => convolution.output,
            Self::Expanded(convolution) => convolution.depthwise.output,
        }
    }

    /// Multiply-accumulates.
    fn operations(&self) -> usize {
        match self {
            Self::Dense(convolution) => convolution.operations(),
            Self::Depthwise(convolution) => convolution.operations(),
            Self::LargeDepthwise(convolution) => convolution.operations(),
            Self::Expanded(convolution) => convolution.operations(),
        }
    }
}

impl Eq for ChannelsLastConvolution {}

impl Op for ChannelsLastConvolution {
    fn name(&self) -> StaticName {
        match self.kernel {
            Kernel::Dense(Convolution { kernel: (1, 1), .. }) => "PointwiseConvolution".into(),
            Kernel::Dense(_) => "DenseConvolution".into(),
            Kernel::Depthwise(_) | Kernel::LargeDepthwise(_) => "DepthwiseConvolution".into(),
            Kernel::Expanded(_) => "PointwiseAndDepthwiseConvolution".into(),
        }
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for ChannelsLastConvolution {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Image { height, width, channels } = self.kernel.output();
        let input = inputs[0].try_as_plain_ram()?;
        let residual = inputs.get(1).map(|residual| residual.try_as_plain_ram()).transpose()?;
        let residual = residual.as_ref().map(PlainView::as_slice::<f32>).transpose()?;
        // SAFETY: the kernels write every element.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&[1, height, width, channels])? };
        let mut target = output.try_as_plain_ram_mut()?;
        let target = target.as_slice_mut::<f32>()?;
        match &self.kernel {
            Kernel::Dense(convolution) => {
                let epilogue = Epilogue { residual, activation: self.activation };
                convolution.run(input.as_slice()?, epilogue, target);
            }
            Kernel::Depthwise(convolution) => {
                convolution.run(input.as_slice()?, self.activation, target);
            }
            Kernel::LargeDepthwise(convolution) => {
                convolution.run(input.as_slice()?, self.activation, target);
            }
            Kernel::Expanded(convolution) => {
                convolution.run(input.as_slice()?, self.activation, target);
            }
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for ChannelsLastConvolution {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let Image { height, width, channels } = self.kernel.output();
        Ok(tvec!(f32::fact([1, height, width, channels])))
    }

    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec!((Cost::FMA(f32::datum_type()), self.kernel.operations().to_dim())))
    }

    /// Fuses the operator that follows, if it is the only one and the kernel can apply it itself.
    fn declutter(
        &self,
        model: &TypedModel,
        node: &TypedNode,
    ) -> TractResult<Option<TypedModelPatch>> {
        let Some(next) = model.single_succ(node.id)? else { return Ok(None) };
        if let Some(activation) = self.followed_by(model, node, next)? {
            let fused = Self { activation, ..self.clone() };
            return TypedModelPatch::fuse_with_next(model, node, fused).map(Some);
        }
        if node.inputs.len() > 1 {
            return Ok(None);
        }
        let Some(residual) = self.added_residual(model, node, next)? else { return Ok(None) };
        let mut patch = TypedModelPatch::new("a residual becomes part of a convolution");
        let inputs = [node.inputs[0], residual];
        let inputs = patch.taps(model, &inputs)?;
        let output = patch.wire_node(&next.name, self.clone(), &inputs)?;
        patch.shunt_outside(model, next.id.into(), output[0])?;
        Ok(Some(patch))
    }

    as_op!();
}

/// A convolution that has absorbed what follows it.
pub(crate) struct Fused {
    pub(crate) convolution: ChannelsLastConvolution,
    /// A tensor that is added before the activation.
    pub(crate) residual: Option<OutletId>,
    /// The last node that was absorbed.
    pub(crate) last: usize,
}

impl ChannelsLastConvolution {
    /// This convolution with as many of `node`'s successors as the kernel can apply itself.
    pub(crate) fn fused_with_successors(
        mut self,
        model: &TypedModel,
        node: &TypedNode,
    ) -> TractResult<Fused> {
        let (mut last, mut residual) = (node, None);
        while let Some(next) = model.single_succ(last.id)? {
            if let Some(activation) = self.followed_by(model, last, next)? {
                self.activation = activation;
            } else if residual.is_none()
                && let Some(added) = self.added_residual(model, last, next)?
            {
                residual = Some(added);
            } else {
                break;
            }
            last = next;
        }
        Ok(Fused { convolution: self, residual, last: last.id })
    }

    /// This activation followed by `next`, if `next` is a bound or a LeakyReLU.
    fn followed_by(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        next: &TypedNode,
    ) -> TractResult<Option<Activation>> {
        if self.activation.function.is_some() {
            return Ok(None);
        }
        if let Some(ElementWiseOp(op, _)) = next.op_as::<ElementWiseOp>() {
            let slope = op.downcast_ref::<LeakyRelu>().map(|leaky| leaky.alpha);
            let fits = slope.filter(|slope| {
                self.activation == Activation::IDENTITY && (0.0..=1.0).contains(slope)
            });
            return Ok(fits.map(|slope| Activation { slope, ..Activation::IDENTITY }));
        }
        let Some(TypedBinOp(op, _)) = next.op_as::<TypedBinOp>() else { return Ok(None) };
        let Some(other) = next.inputs.iter().find(|input| input.node != node.id) else {
            return Ok(None);
        };
        let Some(bound) = uniform(model.outlet_fact(*other)?)? else { return Ok(None) };
        if op.is::<Max>() {
            Ok(Some(self.activation.at_least(bound)))
        } else if op.is::<Min>() {
            Ok(Some(self.activation.at_most(bound)))
        } else {
            Ok(None)
        }
    }

    /// The other operand of `next`, if `next` adds a tensor of the same shape that does not depend on this node.
    fn added_residual(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        next: &TypedNode,
    ) -> TractResult<Option<OutletId>> {
        let is_plain =
            matches!(self.kernel, Kernel::Dense(_)) && self.activation == Activation::IDENTITY;
        let adds = next.op_as::<TypedBinOp>().is_some_and(|TypedBinOp(op, _)| op.is::<Add>());
        if !is_plain || !adds {
            return Ok(None);
        }
        let other = next.inputs.iter().copied().find(|input| input.node != node.id);
        let Some(other) = other else { return Ok(None) };
        let (own, other_fact) = (&node.outputs[0].fact, model.outlet_fact(other)?);
        let fits = other_fact.shape == own.shape && other_fact.datum_type == own.datum_type;
        Ok(fits.then_some(other))
    }
}

/// Fuses a function with the convolution before it, if nothing else uses the convolution's output.
pub(crate) fn absorb_function(
    _: &(),
    model: &TypedModel,
    node: &TypedNode,
    name: &str,
    op: &ElementWiseFunction,
) -> TractResult<Option<TypedModelPatch>> {
    let before = model.node(node.inputs[0].node);
    let Some(convolution) = before.op_as::<ChannelsLastConvolution>() else { return Ok(None) };
    let activation = Activation { function: Some(op.0), ..convolution.activation };
    let is_output = model.outputs.contains(&before.id.into());
    let has_one_use = !is_output && model.single_succ(before.id)?.is_some();
    if convolution.activation.function.is_some() || !has_one_use {
        return Ok(None);
    }
    let mut patch = TypedModelPatch::new("a function becomes part of a convolution");
    let inputs = patch.taps(model, &before.inputs)?;
    let fused = ChannelsLastConvolution { activation, ..convolution.clone() };
    let output = patch.wire_node(name, fused, &inputs)?;
    patch.shunt_outside(model, node.id.into(), output[0])?;
    Ok(Some(patch))
}

/// The number that all elements of a constant are equal to.
fn uniform(fact: &TypedFact) -> TractResult<Option<f32>> {
    let Some(tensor) = fact.konst.as_ref().or(fact.uniform.as_ref()) else { return Ok(None) };
    if tensor.datum_type() != f32::datum_type() {
        return Ok(None);
    }
    let view = tensor.try_as_plain_ram()?;
    let numbers = view.as_slice::<f32>()?;
    let first = numbers.first().copied();
    Ok(first.filter(|first| numbers.iter().all(|number| number == first)))
}
