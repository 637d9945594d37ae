//! On convolutions of random shapes, [`kernels::optimise`] computes what tract's own operators compute.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use proptest::prelude::*;
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::math::{Add, Max, Min, Sub};
use tract_core::ops::nn::{DataFormat, silu};

use common::numbers;

/// A convolution with what follows it.
#[derive(Clone, Debug)]
struct Case {
    height: usize,
    width: usize,
    input_channels: usize,
    output_channels: usize,
    group: usize,
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: PaddingSpec,
    means: Means,
    follower: Follower,
    format: DataFormat,
}

/// Whether a constant for each channel is subtracted from the input first.
#[derive(Clone, Copy, Debug)]
enum Means {
    None,
    Subtracted,
}

#[derive(Clone, Copy, Debug)]
enum Follower {
    None,
    Clip,
    LeakyRelu,
    Silu,
    /// The sum with a convolution of the same input.
    Residual,
    /// The same, and then the function.
    ResidualAndSilu,
}

fn followers() -> impl Strategy<Value = Follower> {
    prop_oneof![
        Just(Follower::None),
        Just(Follower::Clip),
        Just(Follower::LeakyRelu),
        Just(Follower::Silu),
        Just(Follower::Residual),
        Just(Follower::ResidualAndSilu)
    ]
}

fn means() -> impl Strategy<Value = Means> {
    prop_oneof![Just(Means::None), Just(Means::Subtracted)]
}

fn formats() -> impl Strategy<Value = DataFormat> {
    prop_oneof![Just(DataFormat::NCHW), Just(DataFormat::NHWC)]
}

fn paddings() -> impl Strategy<Value = PaddingSpec> {
    let side = || (0_usize..2, 0_usize..2);
    prop_oneof![
        Just(PaddingSpec::Valid),
        Just(PaddingSpec::SameUpper),
        Just(PaddingSpec::SameLower),
        (side(), side()).prop_map(|((top, left), (bottom, right))| {
            PaddingSpec::Explicit(tvec!(top, left), tvec!(bottom, right))
        }),
    ]
}

/// Channels of the input and of the output.
fn pointwise_channels() -> impl Strategy<Value = (usize, usize)> {
    // The weights of the second range take several blocks.
    prop_oneof![3 => (1_usize..90, 1_usize..90), 1 => (200_usize..260, 80_usize..140)]
}

prop_compose! {
    fn pointwise()(
        size in (1_usize..14, 1_usize..14),
        channels in pointwise_channels(),
        stride in 1_usize..3,
        means in means(),
        follower in followers(),
        format in formats(),
    ) -> Case {
        Case {
            height: size.0, width: size.1, input_channels: channels.0, output_channels: channels.1, group: 1,
            kernel: (1, 1), stride: (stride, stride), padding: PaddingSpec::Valid, means, follower, format,
        }
    }
}

prop_compose! {
    fn dense()(
        size in (5_usize..14, 5_usize..14),
        channels in (1_usize..20, 1_usize..40),
        kernel in (1_usize..6, 1_usize..6),
        stride in (1_usize..4, 1_usize..4),
        padding in paddings(),
        means in means(),
        follower in followers(),
        format in formats(),
    ) -> Case {
        Case {
            height: size.0, width: size.1, input_channels: channels.0, output_channels: channels.1, group: 1,
            kernel, stride, padding, means, follower, format,
        }
    }
}

prop_compose! {
    fn depthwise()(
        size in (1_usize..14, 1_usize..14),
        channels in 1_usize..80,
        stride in 1_usize..3,
        padding in paddings(),
        means in means(),
        follower in followers(),
        format in formats(),
    ) -> Case {
        let size = if padding == PaddingSpec::SameUpper { size } else { (size.0 + 2, size.1 + 2) };
        Case {
            height: size.0, width: size.1, input_channels: channels, output_channels: channels, group: channels,
            kernel: (3, 3), stride: (stride, stride), padding, means, follower, format,
        }
    }
}

prop_compose! {
    /// A depthwise convolution that does not slide.
    fn wide_depthwise()(
        size in (5_usize..14, 5_usize..14),
        channels in 1_usize..40,
        kernel in (1_usize..7, 1_usize..7),
        stride in (1_usize..4, 1_usize..4),
        padding in paddings(),
        follower in followers(),
        format in formats(),
    ) -> Case {
        let channels = channels * 4;
        Case {
            height: size.0 + 2, width: size.1 + 2, input_channels: channels, output_channels: channels,
            group: channels, kernel, stride, padding, means: Means::None, follower, format,
        }
    }
}

prop_compose! {
    /// A depthwise convolution of an image that is computed in bands.
    fn large_depthwise()(
        size in (46_usize..60, 46_usize..60),
        channels in 31_usize..36,
        stride in 1_usize..3,
        padding in paddings(),
        follower in prop_oneof![
            Just(Follower::None),
            Just(Follower::Clip),
            Just(Follower::LeakyRelu),
            Just(Follower::Silu)
        ],
        format in formats(),
    ) -> Case {
        let channels = channels * 4;
        Case {
            height: size.0, width: size.1, input_channels: channels, output_channels: channels, group: channels,
            kernel: (3, 3), stride: (stride, stride), padding, means: Means::None, follower, format,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn a_large_image_between_two_convolutions_is_computed_in_bands(
        case in large_depthwise(),
        input_channels in 1_usize..9,
    ) {
        let input_channels = input_channels * 4;
        let expansion = Case {
            input_channels, group: 1, kernel: (1, 1), stride: (1, 1), padding: PaddingSpec::Valid, ..case.clone()
        };
        compare_chain(&[expansion, case], "PointwiseAndDepthwiseConvolution").unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn pointwise_convolutions_are_tracts(case in pointwise()) {
        compare(&case).unwrap();
    }

    #[test]
    fn dense_convolutions_are_tracts(case in dense()) {
        compare(&case).unwrap();
    }

    #[test]
    fn depthwise_convolutions_are_tracts(case in depthwise()) {
        compare(&case).unwrap();
    }

    #[test]
    fn wide_depthwise_convolutions_are_tracts(case in wide_depthwise()) {
        compare(&case).unwrap();
    }
}

#[test]
fn a_window_may_lie_wholly_in_the_padding() {
    compare(&Case {
        height: 5,
        width: 4,
        input_channels: 8,
        output_channels: 8,
        group: 8,
        kernel: (3, 3),
        stride: (1, 1),
        padding: PaddingSpec::Explicit(tvec!(1, 8), tvec!(8, 8)),
        means: Means::None,
        follower: Follower::None,
        format: DataFormat::NCHW,
    })
    .unwrap();
}

fn compare(case: &Case) -> TractResult<()> {
    let expected = match case.group {
        1 => "Convolution",
        channels if channels.is_multiple_of(4) => "DepthwiseConvolution",
        // tract's own.
        _ => "",
    };
    compare_chain(std::slice::from_ref(case), expected)
}

/// Compares convolutions that follow each other. One must be run by a kernel whose name ends so.
fn compare_chain(cases: &[Case], kernel: &str) -> TractResult<()> {
    let model = model(cases)?;
    let input = numbers(model.outlet_fact(OutletId::new(0, 0))?.shape.as_concrete().unwrap(), 1);
    let expected =
        model.clone().into_optimized()?.into_runnable()?.run(tvec!(input.clone().into()))?;
    let optimised = kernels::optimise(model)?;
    let ours = optimised.nodes.iter().any(|node| node.op().name().ends_with(kernel));
    ensure!(ours, "no kernel took the convolution");
    let found = optimised.into_runnable()?.run(tvec!(input.into()))?;
    found[0].close_enough(&expected[0], Approximation::Approximate)
}

fn model(cases: &[Case]) -> TractResult<TypedModel> {
    let mut model = TypedModel::default();
    let first = &cases[0];
    let shape = first.format.from_n_c_hw(1, first.input_channels, [first.height, first.width])?;
    let mut wire = model.add_source("input", f32::fact(&shape.shape))?;
    for (index, case) in cases.iter().enumerate() {
        wire = step(&mut model, case, &index.to_string(), wire)?;
    }
    model.select_output_outlets(&[wire])?;
    Ok(model)
}

/// A convolution, with what precedes and follows it.
fn step(
    model: &mut TypedModel,
    case: &Case,
    prefix: &str,
    mut input: OutletId,
) -> TractResult<OutletId> {
    if let Means::Subtracted = case.means {
        let mut shape = vec![1; 4];
        shape[if case.format.c_is_last() { 3 } else { 1 }] = case.input_channels;
        let means = model.add_const(format!("{prefix}.means"), numbers(&shape, 5))?;
        let subtraction = TypedBinOp(Box::new(Sub), None);
        input = model.wire_node(format!("{prefix}.subtraction"), subtraction, &[input, means])?[0];
    }
    let mut wire = convolution(model, case, &format!("{prefix}.convolution"), input)?;
    match case.follower {
        Follower::None => {}
        Follower::Clip => {
            for (name, op, bound) in [
                ("low", TypedBinOp(Box::new(Max), None), 0.0_f32),
                ("high", TypedBinOp(Box::new(Min), None), 0.5),
            ] {
                let name = format!("{prefix}.{name}");
                let bound = model.add_const(format!("{name}.bound"), tensor4(&[[[[bound]]]]))?;
                wire = model.wire_node(name, op, &[wire, bound])?[0];
            }
        }
        Follower::LeakyRelu => {
            let leaky = tract_core::ops::nn::leaky_relu(0.1);
            wire = model.wire_node(format!("{prefix}.leaky"), leaky, &[wire])?[0];
        }
        Follower::Silu => {
            wire = model.wire_node(format!("{prefix}.silu"), silu::silu(), &[wire])?[0];
        }
        Follower::Residual | Follower::ResidualAndSilu => {
            let other = convolution(model, case, &format!("{prefix}.other"), input)?;
            let sum = TypedBinOp(Box::new(Add), None);
            wire = model.wire_node(format!("{prefix}.sum"), sum, &[wire, other])?[0];
            if matches!(case.follower, Follower::ResidualAndSilu) {
                wire = model.wire_node(format!("{prefix}.silu"), silu::silu(), &[wire])?[0];
            }
        }
    }
    Ok(wire)
}

fn convolution(
    model: &mut TypedModel,
    case: &Case,
    name: &str,
    input: OutletId,
) -> TractResult<OutletId> {
    let (height, width) = case.kernel;
    let shape = [case.output_channels, case.input_channels / case.group, height, width];
    let weights = model.add_const(format!("{name}.weights"), numbers(&shape, name.len()))?;
    let bias = model.add_const(format!("{name}.bias"), numbers(&[case.output_channels], 3))?;
    let op = Conv {
        pool_spec: PoolSpec {
            data_format: case.format,
            kernel_shape: tvec!(height, width),
            padding: case.padding.clone(),
            dilations: None,
            strides: Some(tvec!(case.stride.0, case.stride.1)),
            input_channels: case.input_channels,
            output_channels: case.output_channels,
        },
        kernel_fmt: KernelFormat::OIHW,
        group: case.group,
        q_params: None,
    };
    Ok(model.wire_node(name, op, &[input, weights, bias])?[0])
}
