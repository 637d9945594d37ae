//! Each filter that `model.toml` can name resizes a picture as its definition says, and as Pillow does.

use std::f64::consts::PI;

use detector::model::ModelConfig;
use detector::picture::Picture;
use detector::preprocess;
use detector::tensor::Elements;
use image::{Rgb, RgbImage};

/// A size at which all filters differ, by more than five grey levels.
const SIZE: (u32, u32) = (7, 6);

/// A filter's definition: its value at a distance from the centre, in pixels, and its radius.
type Definition = (fn(f64) -> f64, f64);

/// The filters that weigh several pixels. `nearest` takes one.
const FILTERS: [(&str, Definition); 7] = [
    ("box", (|_| 1.0, 0.5)),
    ("bilinear", (|x| 1.0 - x, 1.0)),
    ("hamming", (|x| sinc(x) * (0.54 + 0.46 * (PI * x).cos()), 1.0)),
    ("catmull_rom", (|x| cubic(x, 0.0, 0.5), 2.0)),
    ("mitchell", (|x| cubic(x, 1.0 / 3.0, 1.0 / 3.0), 2.0)),
    // Of the standard deviation 0.5.
    ("gaussian", (|x| (-2.0 * x * x).exp(), 3.0)),
    ("lanczos3", (|x| sinc(x) * sinc(x / 3.0), 3.0)),
];

/// The red values in the first two rows of the picture at [`SIZE`], by Pillow 13: `picture.resize((7, 6),
/// Image.Resampling.BOX)` and so on. Pillow's `BICUBIC` is Catmull and Rom's; Pillow has neither Mitchell and
/// Netravali's filter nor a Gaussian one.
const BY_PILLOW: [(&str, [u8; 14]); 6] = [
    ("nearest", [64, 69, 185, 70, 66, 191, 67, 185, 190, 66, 191, 187, 72, 188]),
    ("box", [68, 129, 189, 68, 68, 188, 129, 189, 129, 65, 191, 188, 69, 129]),
    ("bilinear", [67, 114, 188, 98, 92, 183, 131, 148, 134, 108, 138, 140, 110, 127]),
    ("hamming", [67, 111, 188, 91, 81, 188, 124, 155, 137, 100, 146, 149, 102, 131]),
    ("catmull_rom", [56, 111, 205, 90, 79, 200, 127, 155, 135, 99, 142, 146, 102, 129]),
    ("lanczos3", [44, 108, 222, 81, 67, 215, 126, 162, 137, 91, 146, 152, 93, 130]),
];

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The cubic filters of Mitchell and Netravali, "Reconstruction Filters in Computer Graphics", 1988.
fn cubic(x: f64, b: f64, c: f64) -> f64 {
    let terms = if x < 1.0 {
        [12.0 - 9.0 * b - 6.0 * c, -18.0 + 12.0 * b + 6.0 * c, 0.0, 6.0 - 2.0 * b]
    } else {
        [-b - 6.0 * c, 6.0 * b + 30.0 * c, -12.0 * b - 48.0 * c, 8.0 * b + 24.0 * c]
    };
    terms.into_iter().fold(0.0, |sum, term| sum * x + term) / 6.0
}

/// Small, with contrasts so strong that filters differ, but not so strong that their values leave 0 to 255.
fn picture() -> RgbImage {
    let colour = |x: u32, y: u32, channel: u32| {
        64 + (x / 3 + y / 2) % 2 * 120 + (x * 7 + y * 5 + channel * 3) % 9
    };
    RgbImage::from_fn(13, 9, |x, y| {
        Rgb([0, 1, 2].map(|channel| u8::try_from(colour(x, y, channel)).expect("a byte")))
    })
}

/// The picture at another size, as the network with this `model.toml` gets it.
fn resized((width, height): (u32, u32), filter: &str, antialias: bool) -> Vec<u8> {
    let manifest = format!(
        "name = \"x\"\n[input]\nname = \"image\"\nwidth = {width}\nheight = {height}\nfit = \"stretch\"\n\
         filter = \"{filter}\"\nantialias = {antialias}\n[output]\nboxes = \"b\"\nscores = \"s\"\n\
         box_format = \"corners\"\n[thresholds]\nmin_confidence = 0.4\niou_threshold = 0.5\nmax_detections = 100\n"
    );
    let manifest = ModelConfig::parse(&manifest).expect("a manifest");
    let picture = Picture::from_pixels(picture()).expect("a picture");
    let (tensor, _) = preprocess::to_tensor(&picture, &manifest.input).expect("a tensor");
    match tensor.elements {
        Elements::U8(pixels) => pixels,
        other => panic!("{other:?}"),
    }
}

/// The weights of the old pixels for each new one. Where a picture is reduced with antialiasing, the filter is as many
/// times wider.
fn weights(old: u32, new: u32, (filter, radius): Definition, antialias: bool) -> Vec<Vec<f64>> {
    let factor = f64::from(old) / f64::from(new);
    let width = if antialias { factor.max(1.0) } else { 1.0 };
    let of = |index: u32| {
        let centre = (f64::from(index) + 0.5) * factor;
        let weight = |pixel: u32| {
            let distance = (f64::from(pixel) + 0.5 - centre) / width;
            // A box takes one of two pixels that lie on its edges.
            let is_inside = distance > -radius && distance <= radius;
            if is_inside { filter(distance.abs()) } else { 0.0 }
        };
        let weights: Vec<f64> = (0..old).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    };
    (0..new).map(of).collect()
}

/// The picture at another size, by the filter's definition.
fn by_definition((width, height): (u32, u32), definition: Definition, antialias: bool) -> Vec<f64> {
    let picture = picture();
    let across = weights(picture.width(), width, definition, antialias);
    let down = weights(picture.height(), height, definition, antialias);
    let mut values = Vec::new();
    for row in &down {
        for column in &across {
            for channel in 0..3 {
                let part = |(x, y, pixel): (u32, u32, &Rgb<u8>)| {
                    column[x as usize] * row[y as usize] * f64::from(pixel.0[channel])
                };
                values.push(picture.enumerate_pixels().map(part).sum());
            }
        }
    }
    values
}

/// The largest difference of two pictures, in grey levels.
fn difference(ours: &[u8], expected: impl Iterator<Item = f64>) -> f64 {
    let pairs = ours.iter().zip(expected);
    pairs
        .map(|(ours, expected)| (f64::from(*ours) - expected.clamp(0.0, 255.0)).abs())
        .fold(0.0, f64::max)
}

#[test]
fn every_filter_is_its_definition_with_and_without_antialiasing() {
    for size in [SIZE, (5, 4), (31, 20), (4, 17)] {
        for (name, definition) in FILTERS {
            for antialias in [false, true] {
                let ours = resized(size, name, antialias);
                let expected = by_definition(size, definition, antialias);
                assert_eq!(ours.len(), expected.len());
                let difference = difference(&ours, expected.into_iter());
                // Both passes round, and a filter with negative weights enlarges the first's error.
                assert!(difference <= 2.0, "{name} {antialias} at {size:?}: {difference}");
            }
        }
    }
}

#[test]
fn filters_that_pillow_has_give_what_it_gives() {
    for (name, expected) in BY_PILLOW {
        let ours: Vec<u8> = resized(SIZE, name, true).into_iter().step_by(3).collect();
        let difference = difference(&ours, expected.into_iter().map(f64::from));
        assert!(difference <= 1.0, "{name}: {ours:?}");
    }
}

#[test]
fn each_name_of_a_filter_is_another_filter() {
    let names = ["nearest"].into_iter().chain(FILTERS.map(|(name, _)| name));
    let all: Vec<(&str, bool)> = names.flat_map(|name| [(name, false), (name, true)]).collect();
    for (index, one) in all.iter().enumerate() {
        for other in &all[..index] {
            let (ours, theirs) = (resized(SIZE, one.0, one.1), resized(SIZE, other.0, other.1));
            // Without antialiasing, a box holds one pixel: the nearest.
            let takes_one = |(name, antialias): (&str, bool)| {
                name == "nearest" || (name == "box" && !antialias)
            };
            let are_same = takes_one(*one) && takes_one(*other);
            let difference = difference(&ours, theirs.into_iter().map(f64::from));
            assert_eq!(difference < 4.0, are_same, "{one:?} and {other:?}: {difference}");
        }
    }
}
