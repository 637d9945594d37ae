//! Guesses a network's head from the shapes of its outputs, and writes a first `model.toml`.

use std::fmt::Write;

use super::{Element, Network, Value};

/// The likely meaning of a network's outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    /// The lines of `[output]`.
    pub output: String,
    pub why: String,
    /// The number of classes, if the shapes show it.
    pub labels: Option<u64>,
}

/// The strides of YOLO's grids.
const YOLO_STRIDES: [u64; 3] = [8, 16, 32];

/// An output with more boxes than this is not that of an end-to-end export.
const MAX_END_TO_END_BOXES: u64 = 1000;

/// The likely head of a network; `None` if nothing fits.
pub fn head(network: &Network) -> Option<Guess> {
    let outputs = &network.outputs;
    match outputs.as_slice() {
        [output] => single(output, image_side(network)),
        [_, _] => pair(outputs),
        _ => after_suppression(outputs),
    }
}

/// The output's axes after the batch axis.
fn axes(value: &Value) -> &[Option<u64>] {
    value.shape.get(1..).unwrap_or_default()
}

fn single(output: &Value, side: Option<(u64, u64)>) -> Option<Guess> {
    let name = &output.name;
    let [first, second] = *axes(output) else { return None };
    let guess = |head: &str, labels: u64, why: String| {
        let output = format!("head = \"{head}\"\noutput = \"{name}\"\n");
        Some(Guess { output, why, labels: Some(labels) })
    };
    let cells = side.map(|(width, height)| {
        YOLO_STRIDES.iter().map(|stride| (width / stride) * (height / stride)).sum::<u64>()
    });
    match (first, second) {
        (boxes, Some(6)) if boxes.is_none_or(|boxes| boxes <= MAX_END_TO_END_BOXES) => {
            Some(Guess {
                output: format!("head = \"end_to_end\"\noutput = \"{name}\"\n"),
                why: format!(
                    "`{name}` has few boxes, each with six numbers: corners, score, class"
                ),
                labels: None,
            })
        }
        (Some(rows), boxes) if rows > 4 && boxes.is_none_or(|boxes| boxes > rows) => {
            let why =
                format!("`{name}` has four rows for the box, and {} for the classes", rows - 4);
            guess("yolov8", rows - 4, why)
        }
        (boxes, Some(columns)) if columns > 5 && boxes.is_some() && boxes == cells => {
            let why = format!("`{name}` has one box for each cell of the strides 8, 16 and 32");
            guess("yolox", columns - 5, why)
        }
        (_, Some(columns)) if columns > 5 => {
            let why = format!("`{name}` has a row of {columns} numbers for each box");
            guess("yolov5", columns - 5, why)
        }
        _ => None,
    }
}

fn pair(outputs: &[Value]) -> Option<Guess> {
    let is_boxes = |value: &&Value| axes(value).last() == Some(&Some(4));
    // If both could be boxes, there are four classes, and the name decides.
    let boxes = outputs
        .iter()
        .filter(is_boxes)
        .max_by_key(|value| value.name.to_lowercase().contains("box"))?;
    let scores = outputs.iter().find(|value| value.name != boxes.name)?;
    let columns = axes(scores).last().copied().flatten();
    let (boxes, scores) = (&boxes.name, &scores.name);
    if scores.to_lowercase().contains("logits") {
        return Some(Guess {
            output: format!(
                "head = \"detr\"\nboxes = \"{boxes}\"\nlogits = \"{scores}\"\n# For DETR and YOLOS, \"softmax\": the last \
                 logit is the background's, and has no label.\nactivation = \"sigmoid\"\n"
            ),
            why: format!("`{boxes}` has boxes, and the name `{scores}` contains “logits”"),
            labels: columns,
        });
    }
    Some(Guess {
        output: format!(
            "boxes = \"{boxes}\"\nscores = \"{scores}\"\n# Or \"corners_yx\" or \"centre\". Boxes are in \
             fractions of the input.\nbox_format = \"corners\"\n"
        ),
        why: format!("`{boxes}` has four numbers for each box, and `{scores}` the scores"),
        labels: columns,
    })
}

fn after_suppression(outputs: &[Value]) -> Option<Guess> {
    let named = |words: [&str; 2]| {
        outputs.iter().map(|value| value.name.as_str()).find(|name| {
            let name = name.to_lowercase();
            words.iter().any(|word| name.contains(word))
        })
    };
    let (boxes, labels, scores) =
        (named(["boxes", "bbox"])?, named(["label", "class"])?, named(["score", "conf"])?);
    let tensorflow = if boxes.starts_with("detection_") {
        "box_format = \"corners_yx\"\nbox_unit = \"fractions\"\n"
    } else {
        ""
    };
    Some(Guess {
        output: format!(
            "head = \"ssd\"\nboxes = \"{boxes}\"\nlabels = \"{labels}\"\nscores = \"{scores}\"\n{tensorflow}\
             first_class_id = 1\n"
        ),
        why: format!("`{boxes}`, `{labels}` and `{scores}` are the usual names after suppression"),
        labels: None,
    })
}

/// The width and height of the first input that is an image of fixed size.
fn image_side(network: &Network) -> Option<(u64, u64)> {
    network.inputs.iter().find_map(|input| match *input.shape {
        [_, Some(3), height, width] => Some((width?, height?)),
        [_, height, width, Some(3)] => Some((width?, height?)),
        _ => None,
    })
}

/// A draft of `model.toml`, with comments on what the network does not show.
pub fn manifest(network: &Network, name: &str, guess: &Guess) -> Option<String> {
    let input = network.inputs.first()?;
    let layout = match *input.shape {
        [_, Some(3), _, _] => "nchw",
        [_, _, _, Some(3)] => "nhwc",
        _ => return None,
    };
    let (width, height) = image_side(network).unwrap_or((640, 640));
    let mut text = format!("name = \"{name}\"\n\n[input]\nname = \"{}\"\n", input.name);
    if image_side(network).is_none() {
        text.push_str("# The network does not fix the input's size.\n");
    }
    let element = match input.element {
        Element::U8 => "u8",
        Element::F16 => "f16",
        _ => "f32",
    };
    let _ = write!(
        text,
        "width = {width}\nheight = {height}\nlayout = \"{layout}\"\nelement = \"{element}\"\n"
    );
    if element != "u8" {
        text.push_str(
            "# (value * scale - mean) / std, as the network was trained. With a scale of 1, values are 0 to 255.\n\
             scale = 0.00392156862745098\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n",
        );
    }
    text.push_str("# Or \"bgr\".\nchannel_order = \"rgb\"\n# Or \"stretch\".\nfit = \"letterbox\"\npadding = 114\n");
    let _ = write!(text, "\n# {}.\n[output]\n{}", guess.why, guess.output);
    text.push_str(
        "\n[thresholds]\nmin_confidence = 0.4\niou_threshold = 0.5\nmax_detections = 100\n",
    );
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{Element, Network, Value, head, manifest};

    fn value(name: &str, shape: &[u64]) -> Value {
        let shape = shape.iter().map(|length| Some(*length).filter(|length| *length > 0)).collect();
        Value { name: name.to_owned(), element: Element::F32, shape }
    }

    fn network(side: u64, outputs: &[(&str, &[u64])]) -> Network {
        Network {
            inputs: vec![value("images", &[1, 3, side, side])],
            outputs: outputs.iter().map(|(name, shape)| value(name, shape)).collect(),
            ..Network::default()
        }
    }

    #[test]
    fn the_shapes_of_known_exports_are_recognised() {
        let cases: [(&str, Network, Option<u64>); 8] = [
            ("yolov8", network(640, &[("output0", &[1, 84, 8400])]), Some(80)),
            ("yolov5", network(640, &[("output0", &[1, 25200, 85])]), Some(80)),
            ("yolov5", network(640, &[("output0", &[1, 25200, 6])]), Some(1)),
            ("yolox", network(416, &[("output", &[1, 3549, 85])]), Some(80)),
            ("end_to_end", network(640, &[("output0", &[1, 300, 6])]), None),
            (
                "detr",
                network(640, &[("logits", &[0, 300, 80]), ("pred_boxes", &[0, 300, 4])]),
                Some(80),
            ),
            ("ssd", network(300, &[("boxes", &[0, 4]), ("scores", &[0]), ("labels", &[0])]), None),
            (
                "ssd",
                network(
                    300,
                    &[
                        ("detection_boxes", &[1, 100, 4]),
                        ("detection_classes", &[1, 100]),
                        ("detection_scores", &[1, 100]),
                        ("num_detections", &[1]),
                    ],
                ),
                None,
            ),
        ];
        for (name, network, labels) in cases {
            let guess = head(&network).unwrap_or_else(|| panic!("{name}"));
            assert!(guess.output.contains(&format!("head = \"{name}\"")), "{name}: {guess:?}");
            assert_eq!(guess.labels, labels, "{name}");
        }
        let ours = network(300, &[("scores", &[1, 1917, 90]), ("boxes", &[1, 1917, 4])]);
        let guess = head(&ours).expect("a guess");
        assert!(guess.output.starts_with("boxes = \"boxes\"\nscores = \"scores\""), "{guess:?}");
        assert_eq!(head(&network(224, &[("probabilities", &[1, 1000])])), None);
    }

    #[test]
    fn the_first_manifest_describes_the_input() {
        let network = network(416, &[("output", &[1, 3549, 85])]);
        let text =
            manifest(&network, "mine", &head(&network).expect("a guess")).expect("a manifest");
        for line in ["name = \"mine\"", "width = 416", "layout = \"nchw\"", "head = \"yolox\""] {
            assert!(text.contains(line), "{text} lacks {line}");
        }
    }
}
