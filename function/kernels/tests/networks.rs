//! On pictures, both shipped networks give with [`kernels::optimise`] what they give with tract's own operators.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and print")]

use std::path::PathBuf;
use std::sync::Arc;

use image::imageops::FilterType;
use tract_onnx::prelude::*;

/// The largest difference of a box, in fractions of the picture, or of a score.
const TOLERANCE: f32 = 0.0001;

fn root() -> PathBuf {
    // Cargo runs a crate's tests in its folder.
    PathBuf::from("../..")
}

fn network(model: &str, input: &str, fact: InferenceFact) -> TypedModel {
    let path = root().join("function/model").join(model).join("model.onnx");
    let network = tract_onnx::onnx().model_for_path(path).unwrap();
    let network = network.with_input_names([input]).unwrap();
    network.with_input_fact(0, fact).unwrap().into_typed().unwrap()
}

/// All pictures of the tests, as RGB of this size, by rows.
fn pictures(size: u32) -> Vec<(PathBuf, Vec<u8>)> {
    let mut pictures = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/pictures")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jpg" || extension == "png") {
            let picture = image::open(&path).unwrap().to_rgb8();
            let resized = image::imageops::resize(&picture, size, size, FilterType::Triangle);
            pictures.push((path, resized.into_raw()));
        }
    }
    assert!(pictures.len() > 10, "{}", pictures.len());
    pictures
}

fn difference(expected: &Tensor, given: &Tensor) -> f32 {
    assert_eq!(expected.shape(), given.shape());
    let [expected, given] = [expected, given].map(|tensor| tensor.try_as_plain_ram().unwrap());
    let [expected, given] = [&expected, &given].map(|tensor| tensor.as_slice::<f32>().unwrap());
    expected.iter().zip(given).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

/// Runs the network in both forms on each input, and returns the largest difference of any number.
fn largest_difference(network: TypedModel, inputs: Vec<(PathBuf, Tensor)>) -> f32 {
    let stock = network.clone().into_optimized().unwrap().into_runnable().unwrap();
    let with_kernels = kernels::optimise(network).unwrap();
    let operators = with_kernels.nodes().iter().map(|node| node.op().name());
    let ours = operators.filter(|name| name.ends_with("Convolution")).count();
    assert!(ours > 30, "the kernels apply to {ours} operators");
    let with_kernels = with_kernels.into_runnable().unwrap();
    let run = |plan: &Arc<TypedRunnableModel>, input: &Tensor| {
        plan.run(tvec!(input.clone().into())).unwrap()
    };
    let mut largest = 0_f32;
    for (path, input) in inputs {
        let (expected, given) = (run(&stock, &input), run(&with_kernels, &input));
        assert_eq!(expected.len(), given.len());
        for (expected, given) in expected.iter().zip(&given) {
            let difference = difference(expected, given);
            assert!(difference < TOLERANCE, "{}: {difference}", path.display());
            largest = largest.max(difference);
        }
    }
    largest
}

fn assert_same(model: &str, size: u32) {
    let side = size as usize;
    let shape = [1, side, side, 3];
    let network = network(model, "image", InferenceFact::dt_shape(DatumType::U8, shape));
    let inputs = pictures(size).into_iter().map(|(path, pixels)| {
        (path, tract_ndarray::Array4::from_shape_vec(shape, pixels).unwrap().into_tensor())
    });
    let largest = largest_difference(network, inputs.collect());
    println!("{model}: numbers differ by at most {largest}");
}

#[test]
fn ssdlite_gives_what_tracts_own_operators_give() {
    assert_same("ssdlite_mobilenet_v2", 300);
}

#[test]
fn nanodet_gives_what_tracts_own_operators_give() {
    assert_same("nanodet_g", 416);
}
