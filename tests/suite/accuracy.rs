//! COCO mean average precision, by COCO's own rules, compared with that of the reference pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use detector::options::{self, Options, PictureFormat};
use image::ImageFormat;
use image::imageops::FilterType;
use serde::Deserialize;
use serde_json::Value;
use spotter_tests::reference::{self, Detection};
use spotter_tests::server::Server;
use spotter_tests::{client, native, pictures, yolox};

/// Ground truth in COCO's format.
#[derive(Deserialize)]
struct GroundTruth {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Category {
    id: u32,
    name: String,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u32,
    /// Left, top, width, height in pixels.
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

/// Pictures with their ground truth.
struct Coco {
    truth: GroundTruth,
    /// Their folder.
    pictures: PathBuf,
}

impl Coco {
    fn read(folder: &Path) -> Self {
        let file = std::fs::read(folder.join("instances.json")).expect("ground truth");
        let truth = serde_json::from_slice(&file).expect("ground truth");
        Self { truth, pictures: folder.join("images") }
    }

    fn keep_every_third_picture(&mut self) {
        let mut index = 0;
        self.truth.images.retain(|_| {
            index += 1;
            index % 3 == 0
        });
        let kept: BTreeSet<u64> = self.truth.images.iter().map(|image| image.id).collect();
        self.truth.annotations.retain(|annotation| kept.contains(&annotation.image_id));
    }

    /// That of a detector whose labels are COCO's names.
    fn mean_average_precision(&self, detect: impl Fn(&[u8]) -> Vec<Detection>) -> f64 {
        let truth = &self.truth;
        let mut classes: BTreeMap<u32, BTreeMap<u64, Pair>> = BTreeMap::new();
        for annotation in &truth.annotations {
            let [left, top, width, height] = annotation.bbox;
            let pair = classes.entry(annotation.category_id).or_default();
            pair.entry(annotation.image_id).or_default().truths.push(Truth {
                corners: [left, top, left + width, top + height],
                is_crowd: annotation.iscrowd == 1,
            });
        }
        let ids: BTreeMap<&str, u32> =
            truth.categories.iter().map(|category| (category.name.as_str(), category.id)).collect();
        for image in &truth.images {
            let path = self.pictures.join(&image.file_name);
            let picture =
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for detection in detect(&picture) {
                let class = classes.entry(ids[detection.label.as_str()]).or_default();
                class.entry(image.id).or_default().detections.push(detection);
            }
        }
        let thresholds: Vec<f64> = (0..10).map(|step| 0.5 + 0.05 * f64::from(step)).collect();
        // Classes without any annotation do not count.
        let precisions: Vec<f64> = classes
            .values()
            .filter(|class| {
                class.values().any(|pair| pair.truths.iter().any(|truth| !truth.is_crowd))
            })
            .flat_map(|class| {
                thresholds.iter().map(|threshold| average_precision(class, *threshold))
            })
            .collect();
        100.0 * precisions.iter().sum::<f64>() / precisions.len() as f64
    }
}

/// One annotation, prepared for matching.
struct Truth {
    corners: [f64; 4],
    is_crowd: bool,
}

/// The annotations and detections of one class in one picture.
#[derive(Default)]
struct Pair {
    truths: Vec<Truth>,
    detections: Vec<Detection>,
}

#[test]
#[cfg_attr(not(shared_pictures), ignore = "COCO's pictures are not in a clone: set SPOTTER_SHARED")]
fn mean_average_precision_is_the_references() {
    let shared = pictures::shared().expect("SPOTTER_SHARED");
    // COCO's settings: a very low threshold, and up to a hundred detections.
    let url =
        Server::shared().url("/detect?min_confidence=0.01&iou_threshold=0.6&max_detections=100");
    let coco = Coco::read(&shared.join("coco"));
    let map = coco.mean_average_precision(served_by(&url));
    let file = std::fs::read(shared.join("model/reference/coco_map.json")).expect("COCO figures");
    let reference: Value = serde_json::from_slice(&file).expect("COCO figures");
    let expected = reference["AP"].as_f64().expect("a figure");
    println!("mean average precision {map:.2}, reference {expected}");
    assert!((map - expected).abs() <= 0.2, "mean average precision {map:.2}, reference {expected}");
}

#[test]
#[cfg_attr(not(shared_pictures), ignore = "YOLOX-Nano is not in a clone: set SPOTTER_SHARED")]
fn yolox_nanos_mean_average_precision_is_that_of_onnx_runtimes_pipeline() {
    /// Of ONNX Runtime's detections in the same pictures, with scores from 0.01 and suppression at 0.65.
    const REFERENCE: f64 = 30.8;
    let shared = pictures::shared().expect("SPOTTER_SHARED");
    let (server, _folder) = yolox::serve(&shared);
    let url = server.url("/detect?min_confidence=0.01&iou_threshold=0.65&max_detections=100");
    let coco = Coco::read(&shared.join("coco"));
    let map = coco.mean_average_precision(served_by(&url));
    println!("mean average precision {map:.2}, reference {REFERENCE}");
    assert!((map - REFERENCE).abs() <= 0.5, "mean average precision {map:.2}");
}

#[test]
#[cfg_attr(not(shared_pictures), ignore = "COCO's pictures are not in a clone: set SPOTTER_SHARED")]
fn mean_average_precision_is_no_lower_when_large_jpegs_are_decoded_at_a_fraction_of_their_size() {
    /// To about 1920x1440, which is decoded at a half. Of all pictures, the figures are in BENCHMARKS.md.
    const ENLARGEMENT: f64 = 3.0;
    let model = native::model();
    let mut coco = Coco::read(&pictures::shared().expect("SPOTTER_SHARED").join("coco"));
    coco.keep_every_third_picture();
    let mut defaults = Options::new(model.thresholds());
    (defaults.min_confidence, defaults.iou_threshold, defaults.max_detections) = (0.01, 0.6, 100);
    let [reduced, whole] =
        [None, Some(options::Annotation::As(PictureFormat::Jpeg))].map(|annotate| {
            let options = Options { annotate, ..defaults.clone() };
            coco.mean_average_precision(|picture| {
                let picture = enlarged(picture, ENLARGEMENT);
                let (report, _) = detector::detect(&model, &picture, &options).expect("a report");
                let mut detections =
                    reference::of_reply(&serde_json::to_value(report).expect("JSON"));
                for detection in &mut detections {
                    detection.corners = detection.corners.map(|corner| corner / ENLARGEMENT);
                }
                detections
            })
        });
    println!("mean average precision {reduced:.2}, decoded whole {whole:.2}");
    assert!(
        reduced >= whole - 0.5,
        "mean average precision {reduced:.2}, decoded whole {whole:.2}"
    );
}

/// A JPEG of the same picture with more pixels.
fn enlarged(picture: &[u8], factor: f64) -> Vec<u8> {
    let picture = image::load_from_memory(picture).expect("a picture");
    let [width, height] =
        [picture.width(), picture.height()].map(|side| (f64::from(side) * factor) as u32);
    let mut file = Cursor::new(Vec::new());
    let enlarged = picture.resize_exact(width, height, FilterType::CatmullRom).to_rgb8();
    enlarged.write_to(&mut file, ImageFormat::Jpeg).expect("a JPEG");
    file.into_inner()
}

/// Detects with the server at `url`.
fn served_by(url: &str) -> impl Fn(&[u8]) -> Vec<Detection> {
    move |picture| reference::of_reply(&client::post_picture(url, picture).json())
}

/// Precision averaged over 101 points of recall, for one class at one overlap.
fn average_precision(class: &BTreeMap<u64, Pair>, threshold: f64) -> f64 {
    let truths =
        class.values().flat_map(|pair| &pair.truths).filter(|truth| !truth.is_crowd).count();
    let mut outcomes: Vec<(f64, bool)> =
        class.values().flat_map(|pair| outcomes(pair, threshold)).collect();
    outcomes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut right = 0;
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for (index, (_, is_right)) in outcomes.iter().enumerate() {
        right += usize::from(*is_right);
        curve.push((right as f64 / truths as f64, right as f64 / (index + 1) as f64));
    }
    // Make precision never rise with recall.
    for index in (1..curve.len()).rev() {
        curve[index - 1].1 = curve[index - 1].1.max(curve[index].1);
    }
    let at =
        |recall: f64| curve.iter().find(|point| point.0 >= recall).map_or(0.0, |point| point.1);
    (0..=100).map(|point| at(f64::from(point) / 100.0)).sum::<f64>() / 101.0
}

/// Each detection's confidence, and whether it is right. Detections that match only a crowd are left out.
fn outcomes(pair: &Pair, threshold: f64) -> Vec<(f64, bool)> {
    let mut taken = vec![false; pair.truths.len()];
    let mut outcomes = Vec::new();
    for detection in &pair.detections {
        let mut best: Option<(usize, f64)> = None;
        for (index, truth) in pair.truths.iter().enumerate() {
            let overlap = reference::overlap(&detection.corners, &truth.corners);
            let least = best.map_or(threshold, |(_, overlap)| overlap);
            if !truth.is_crowd && !taken[index] && overlap >= least {
                best = Some((index, overlap));
            }
        }
        let is_in_crowd = pair.truths.iter().any(|truth| {
            truth.is_crowd && share_inside(&detection.corners, &truth.corners) >= threshold
        });
        match best {
            Some((index, _)) => {
                taken[index] = true;
                outcomes.push((detection.confidence, true));
            }
            None if is_in_crowd => {}
            None => outcomes.push((detection.confidence, false)),
        }
    }
    outcomes
}

/// The overlap with a crowd, which has no single box, is the share of the detection that lies in it.
fn share_inside(detection: &[f64; 4], crowd: &[f64; 4]) -> f64 {
    let area = |c: &[f64; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let inside = area(&[
        detection[0].max(crowd[0]),
        detection[1].max(crowd[1]),
        detection[2].min(crowd[2]),
        detection[3].min(crowd[3]),
    ]);
    if area(detection) > 0.0 { inside / area(detection) } else { 0.0 }
}
