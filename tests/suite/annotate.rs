//! Annotated pictures.

use detector::{BoundingBox, Detection, annotate};
use image::{Rgb, RgbImage};

const GREY: Rgb<u8> = Rgb([128, 128, 128]);

fn at(class_id: u32, left: f32) -> Detection<'static> {
    let bounding_box = BoundingBox { x_min: left, y_min: 200.0, x_max: left + 6.0, y_max: 206.0 };
    Detection { label: "backpack", class_id, confidence: 0.42, bounding_box, area_ratio: 0.0 }
}

fn drawn(detections: &[Detection]) -> RgbImage {
    let mut picture = RgbImage::from_pixel(640, 480, GREY);
    annotate::draw(&mut picture, detections).expect("a font");
    picture
}

fn count(picture: &RgbImage, colour: Rgb<u8>) -> usize {
    picture.pixels().filter(|pixel| **pixel == colour).count()
}

#[test]
fn labels_of_an_annotated_picture_do_not_cover_each_other() {
    // Seven classes, seven colours, all at nearly the same place.
    let crowd: Vec<Detection> =
        (0_u16..7).map(|class| at(class.into(), f32::from(class))).collect();
    let together = drawn(&crowd);
    for detection in &crowd {
        let alone = drawn(std::slice::from_ref(detection));
        let colour = *alone.pixels().find(|pixel| **pixel != GREY).expect("a label");
        let (before, after) = (count(&alone, colour), count(&together, colour));
        // Boxes may cover each other, and each has at most 36 pixels.
        assert!(
            before > 500 && after + 36 >= before,
            "class {}: {before}, {after}",
            detection.class_id
        );
    }
}
