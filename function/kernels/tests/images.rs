//! Between convolutions, [`kernels::optimise`] keeps images channels-last, and computes what tract's own operators
//! compute.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use proptest::prelude::*;
use tract_core::internal::*;
use tract_core::ops::array::{Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_core::ops::downsample::Downsample;
use tract_core::ops::math::Add;
use tract_core::ops::nn::{
    CoordTransformer, DataFormat, Interpolator, Nearest, Resize, Softmax, SoftmaxKind, sigmoid,
    silu,
};

use common::numbers;

/// An operator between two convolutions.
#[derive(Clone, Debug)]
enum Operator {
    MaxPool {
        window: [usize; 2],
        strides: [usize; 2],
        padding: PaddingSpec,
    },
    Resize {
        scales: [f32; 2],
        coordinates: CoordTransformer,
        interpolator: Interpolator,
        nearest: Nearest,
    },
    /// Along any axis but the first.
    Softmax(usize),
    /// The image joined with its sigmoid.
    Concat,
    /// The channels from the second on, plus a constant.
    Slice,
    /// x / (1 + e^-x)
    Silu,
    /// Every second pixel, from four starting points, joined along the channels.
    SpaceToDepth,
}

fn paddings() -> impl Strategy<Value = PaddingSpec> {
    let side = || (0_usize..2, 0_usize..2);
    prop_oneof![
        Just(PaddingSpec::Valid),
        Just(PaddingSpec::SameUpper),
        (side(), side()).prop_map(|((top, left), (bottom, right))| {
            PaddingSpec::Explicit(tvec!(top, left), tvec!(bottom, right))
        }),
    ]
}

fn coordinates() -> impl Strategy<Value = CoordTransformer> {
    prop_oneof![
        Just(CoordTransformer::HalfPixel),
        Just(CoordTransformer::AlignCorners),
        Just(CoordTransformer::Asymmetric),
        Just(CoordTransformer::PytorchHalfPixel),
    ]
}

fn operators() -> impl Strategy<Value = Operator> {
    let interpolators = prop_oneof![
        Just(Interpolator::Linear),
        Just(Interpolator::Nearest),
        Just(Interpolator::Cubic)
    ];
    let scale = || prop_oneof![Just(0.5_f32), Just(1.0), Just(1.5), Just(2.0), Just(3.0)];
    let nearest = prop_oneof![Just(Nearest::Floor), Just(Nearest::RoundPreferCeil)];
    prop_oneof![
        (prop::array::uniform2(2_usize..4), prop::array::uniform2(1_usize..4), paddings())
            .prop_map(|(window, strides, padding)| Operator::MaxPool { window, strides, padding }),
        ((scale(), scale()), coordinates(), interpolators, nearest).prop_map(
            |(scales, coordinates, interpolator, nearest)| {
                Operator::Resize { scales: scales.into(), coordinates, interpolator, nearest }
            }
        ),
        (1_usize..4).prop_map(Operator::Softmax),
        Just(Operator::Concat),
        Just(Operator::Slice),
        Just(Operator::Silu),
        Just(Operator::SpaceToDepth),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn operators_between_convolutions_are_tracts(
        size in (5_usize..12, 5_usize..12),
        channels in 1_usize..10,
        operators in prop::collection::vec(operators(), 1..4),
    ) {
        compare([channels * 4, size.0, size.1], &operators).unwrap();
    }
}

/// A network of these operators between two convolutions, with two heads.
fn model(image: [usize; 3], operators: &[Operator]) -> TractResult<TypedModel> {
    let [channels, height, width] = image;
    let mut model = TypedModel::default();
    let mut wire = model.add_source("input", f32::fact([1, channels, height, width]))?;
    wire = convolution(&mut model, "first", wire)?;
    for (index, operator) in operators.iter().enumerate() {
        wire = add(&mut model, &index.to_string(), operator, wire)?;
    }
    wire = convolution(&mut model, "last", wire)?;
    let head = [head(&mut model, "a", wire)?, head(&mut model, "b", wire)?];
    // As a detector's heads: `[1, pixels of both, channels]`.
    let joined = model.wire_node("heads", TypedConcat { axis: 2 }, &head)?[0];
    let output = model.wire_node("output", AxisOp::Move(1, 2), &[joined])?;
    model.select_output_outlets(&output)?;
    Ok(model)
}

fn compare(image: [usize; 3], operators: &[Operator]) -> TractResult<()> {
    let model = model(image, operators)?;
    let input = numbers(&[1, image[0], image[1], image[2]], 1);
    let expected =
        model.clone().into_optimized()?.into_runnable()?.run(tvec!(input.clone().into()))?;
    let optimised = kernels::optimise(model)?;
    let found = optimised.into_runnable()?.run(tvec!(input.into()))?;
    found[0].close_enough(&expected[0], Approximation::Approximate)
}

/// tract's importer does not check a softmax's axis.
#[test]
fn an_axis_that_is_not_there_stays_tracts() {
    let optimised = kernels::optimise(model([4, 5, 5], &[Operator::Softmax(7)]).unwrap());
    assert!(optimised.is_ok(), "{:?}", optimised.err());
}

#[test]
fn a_convolution_applies_the_function_that_follows_it() {
    // The output of the first convolution takes several bands.
    let (image, operators) = ([8, 60, 60], [Operator::Silu]);
    compare(image, &operators).unwrap();
    let optimised = kernels::optimise(model(image, &operators).unwrap()).unwrap();
    let names: Vec<_> = optimised.nodes.iter().map(|node| node.op().name()).collect();
    assert!(!names.iter().any(|name| name == "Silu"), "{names:?}");
}

#[test]
fn every_second_pixel_is_gathered_at_once() {
    let operators = [Operator::SpaceToDepth, Operator::SpaceToDepth];
    compare([4, 8, 12], &operators).unwrap();
    let optimised = kernels::optimise(model([4, 8, 12], &operators).unwrap()).unwrap();
    let names: Vec<_> = optimised.nodes.iter().map(|node| node.op().name()).collect();
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    assert_eq!((count("SpaceToDepth"), count("Downsample")), (2, 0), "{names:?}");
}

#[test]
fn one_move_is_left_that_of_the_input() {
    let (padding, nearest) = (PaddingSpec::SameUpper, Nearest::Floor);
    let coordinates = CoordTransformer::HalfPixel;
    let resize = |interpolator| Operator::Resize {
        scales: [2.0, 2.0],
        coordinates: coordinates.clone(),
        interpolator,
        nearest,
    };
    let operators = [
        Operator::MaxPool { window: [3, 3], strides: [2, 2], padding },
        resize(Interpolator::Linear),
        Operator::Concat,
        resize(Interpolator::Nearest),
        Operator::Slice,
        Operator::Softmax(1),
    ];
    let optimised = kernels::optimise(model([8, 10, 12], &operators).unwrap()).unwrap();
    let names: Vec<_> = optimised.nodes.iter().map(|node| node.op().name()).collect();
    let moves = names.iter().filter(|name| *name == "MoveAxis").count();
    assert_eq!(moves, 1, "{names:?}");
}

/// The rows of an image joined: `[1, channels, height * width]`.
fn head(model: &mut TypedModel, name: &str, image: OutletId) -> TractResult<OutletId> {
    let shape = model.outlet_fact(image)?.shape.clone();
    let from = tvec!(shape[2].clone(), shape[3].clone());
    let joined = tvec!(shape[2].clone() * shape[3].clone());
    Ok(model.wire_node(format!("{name}.joined"), AxisOp::Reshape(2, from, joined), &[image])?[0])
}

/// Wires an operator, if it leaves at least one pixel.
fn add(
    model: &mut TypedModel,
    name: &str,
    operator: &Operator,
    image: OutletId,
) -> TractResult<OutletId> {
    let shape = model.outlet_fact(image)?.shape.as_concrete().unwrap().to_vec();
    let (channels, height, width) = (shape[1], shape[2], shape[3]);
    let output = match operator {
        Operator::MaxPool { window, strides, padding } => {
            if height < 3 || width < 3 {
                return Ok(image);
            }
            let pool_spec = PoolSpec {
                data_format: DataFormat::NCHW,
                kernel_shape: window.iter().copied().collect(),
                padding: padding.clone(),
                dilations: None,
                strides: Some(strides.iter().copied().collect()),
                input_channels: channels,
                output_channels: channels,
            };
            model.wire_node(name, MaxPool { pool_spec, with_index_outputs: None }, &[image])?
        }
        Operator::Resize { scales: [down, across], coordinates, interpolator, nearest } => {
            if height < 2 || width < 2 || height.max(width) > 40 {
                return Ok(image);
            }
            let scales = tensor1(&[1.0, 1.0, *down, *across]);
            let scales = model.add_const(format!("{name}.scales"), scales)?;
            let resize = Resize {
                coord_transformer: coordinates.clone(),
                interpolator: interpolator.clone(),
                nearest: *nearest,
                optional_scales_input: Some(1),
                optional_sizes_input: None,
            };
            model.wire_node(name, resize, &[image, scales])?
        }
        Operator::Softmax(axis) => {
            let kind = SoftmaxKind::Softmax;
            let softmax = Softmax { axes: tvec!(*axis), quant_output_dt: None, kind };
            model.wire_node(name, softmax, &[image])?
        }
        Operator::Concat => {
            let sigmoid = model.wire_node(format!("{name}.sigmoid"), sigmoid(), &[image])?[0];
            model.wire_node(name, TypedConcat { axis: 1 }, &[image, sigmoid])?
        }
        Operator::Slice => {
            if channels < 2 {
                return Ok(image);
            }
            let slice = Slice::new(1, 1, channels);
            let slice = model.wire_node(format!("{name}.slice"), slice, &[image])?[0];
            let summands = numbers(&[1, channels - 1, 1, 1], 2);
            let summands = model.add_const(format!("{name}.summands"), summands)?;
            model.wire_node(name, TypedBinOp(Box::new(Add), None), &[slice, summands])?
        }
        Operator::Silu => model.wire_node(name, silu::silu(), &[image])?,
        Operator::SpaceToDepth => {
            if height % 2 + width % 2 > 0 {
                return Ok(image);
            }
            let mut parts = tvec!();
            for (index, starts) in [[0, 0], [1, 0], [0, 1], [1, 1]].into_iter().enumerate() {
                let mut part = image;
                for (axis, modulo) in [2, 3].into_iter().zip(starts) {
                    let every_second = Downsample { axis, stride: 2, modulo };
                    let name = format!("{name}.{index}.{axis}");
                    part = model.wire_node(name, every_second, &[part])?[0];
                }
                parts.push(part);
            }
            model.wire_node(name, TypedConcat { axis: 1 }, &parts)?
        }
    };
    Ok(output[0])
}

/// A pointwise convolution with 8 outputs.
fn convolution(model: &mut TypedModel, name: &str, image: OutletId) -> TractResult<OutletId> {
    let channels = model.outlet_fact(image)?.shape[1].to_usize()?;
    let weights = numbers(&[8, channels, 1, 1], name.len());
    let weights = model.add_const(format!("{name}.weights"), weights)?;
    let bias = model.add_const(format!("{name}.bias"), numbers(&[8], 3))?;
    let op = Conv {
        pool_spec: PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: tvec!(1, 1),
            padding: PaddingSpec::Valid,
            dilations: None,
            strides: None,
            input_channels: channels,
            output_channels: 8,
        },
        kernel_fmt: KernelFormat::OIHW,
        group: 1,
        q_params: None,
    };
    Ok(model.wire_node(name, op, &[image, weights, bias])?[0])
}
