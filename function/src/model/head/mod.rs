//! The head of a network: what its outputs mean. Each family of heads has a file, with the pure functions that turn
//! output tensors into candidates.

mod boxes;
mod boxes_scores;
mod check;
#[cfg(feature = "embedded")]
mod check_values;
mod detr;
mod end_to_end;
mod ssd;
mod yolov5;
mod yolov8;
mod yolox;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use boxes::{BoxFormat, BoxUnit};
use check::{Dimension, Expectation};
pub(super) use check::{OutputFact, check_facts};
#[cfg(feature = "embedded")]
pub(super) use check_values::check_values;
pub use detr::Activation;

use super::{InputConfig, Outputs};

/// A network's outputs, their meaning, and what is left to do with its boxes.
#[derive(Clone, Debug)]
pub struct OutputConfig {
    pub head: Head,
    /// The class id of the first column in the data set that the model was trained on.
    pub first_class_id: u32,
    pub suppression: Suppression,
}

/// The families of outputs. Shapes omit the batch axis, which is optional; `N` is any number of boxes, and `C` the
/// number of labels.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "head", rename_all = "snake_case", deny_unknown_fields)]
pub enum Head {
    /// Boxes `[N, 4]` in fractions of the input, and scores `[N, C]`, 0 to 1.
    BoxesScores { boxes: String, scores: String, box_format: BoxFormat },
    /// YOLOv8, v9, v11, v12: `[4 + C, N]`, centre boxes in pixels of the input, then scores.
    Yolov8 { output: String },
    /// YOLOv5, v7: `[N, 5 + C]`, centre boxes in pixels of the input, objectness, then scores.
    Yolov5 { output: String },
    /// YOLOX: `[N, 5 + C]`, boxes as offsets within the cells of a grid for each stride, objectness, then scores.
    Yolox {
        output: String,
        #[serde(default = "yolox::strides")]
        strides: Vec<u32>,
    },
    /// YOLOv10, YOLO26: `[N, 6]`, corners, score, class. There is nothing left to suppress.
    EndToEnd {
        output: String,
        #[serde(default)]
        box_unit: BoxUnit,
    },
    /// torchvision and TensorFlow: boxes `[N, 4]`, labels `[N]` and scores `[N]` after suppression.
    Ssd {
        boxes: String,
        labels: String,
        scores: String,
        #[serde(default)]
        box_format: BoxFormat,
        #[serde(default)]
        box_unit: BoxUnit,
        /// The number that `labels` gives to the first label.
        #[serde(default = "ssd::first_label")]
        first_label: u32,
    },
    /// DETR, RT-DETR, D-FINE: boxes `[N, 4]` as centres in fractions, and logits `[N, C]`, or with the background last
    /// `[N, C + 1]`.
    Detr { boxes: String, logits: String, activation: Activation },
}

/// Which overlapping boxes suppress each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// Boxes of the same class.
    PerClass,
    /// Boxes of any class.
    ClassAgnostic,
    /// No boxes: the network does its own suppression.
    None,
}

/// A score that passes the filter, and where it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// 0 to 1.
    pub confidence: f32,
    /// The box's position in the outputs.
    pub anchor: usize,
    /// The class's line in `labels.txt`, from 0.
    pub column: usize,
}

/// The scores that a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct ScoreFilter<'f> {
    pub min_confidence: f32,
    /// For each column, whether it is wanted.
    pub wanted: &'f [bool],
}

impl ScoreFilter<'_> {
    fn accepts(&self, confidence: f32, column: usize) -> bool {
        confidence >= self.min_confidence && self.wanted.get(column).is_some_and(|wanted| *wanted)
    }
}

/// The outputs of one run, as the head reads them.
pub trait Decoder {
    /// Calls `found` for each score that the filter accepts.
    fn candidates(&self, filter: &ScoreFilter, found: &mut dyn FnMut(Candidate));

    /// A candidate's box: `x_min, y_min, x_max, y_max` in fractions of the input.
    fn corners(&self, anchor: usize) -> [f32; 4];

    /// Calls `visit` for every number that must be a probability.
    fn probabilities(&self, visit: &mut dyn FnMut(f32));
}

impl Head {
    /// The names of the outputs in the ONNX graph, in the order in which [`Head::decoder`] takes them.
    pub fn outputs(&self) -> Vec<&str> {
        match self {
            Self::BoxesScores { boxes, scores, .. } => vec![boxes, scores],
            Self::Yolov8 { output }
            | Self::Yolov5 { output }
            | Self::Yolox { output, .. }
            | Self::EndToEnd { output, .. } => vec![output],
            Self::Ssd { boxes, labels, scores, .. } => vec![boxes, labels, scores],
            Self::Detr { boxes, logits, .. } => vec![boxes, logits],
        }
    }

    /// What the outputs must be for this number of labels.
    fn expectations(&self, labels: usize, input: &InputConfig) -> Vec<Expectation<'_>> {
        use Dimension::{Boxes, Is};
        let floats =
            |name, [first, second]: [Dimension; 2]| Expectation::floats(name, [first, second]);
        match self {
            Self::BoxesScores { boxes, scores, .. } => {
                vec![floats(boxes, [Boxes, Is(4)]), floats(scores, [Boxes, Is(labels)])]
            }
            Self::Yolov8 { output } => vec![floats(output, [Is(4 + labels), Boxes])],
            Self::Yolov5 { output } => vec![floats(output, [Boxes, Is(5 + labels)])],
            Self::Yolox { output, strides } => {
                let cells = Is(yolox::cells(strides, input));
                vec![floats(output, [cells, Is(5 + labels)])]
            }
            Self::EndToEnd { output, .. } => vec![floats(output, [Boxes, Is(6)])],
            Self::Ssd { boxes, labels, scores, .. } => vec![
                floats(boxes, [Boxes, Is(4)]),
                Expectation::labels(labels),
                Expectation::floats(scores, [Boxes]),
            ],
            Self::Detr { boxes, logits, activation } => vec![
                floats(boxes, [Boxes, Is(4)]),
                floats(logits, [Boxes, Is(activation.columns(labels))]),
            ],
        }
    }

    /// Reads the outputs of one run, for this number of labels.
    pub fn decoder<'o>(
        &'o self,
        outputs: &'o Outputs,
        labels: usize,
        input: &InputConfig,
    ) -> Box<dyn Decoder + 'o> {
        let pixels = BoxUnit::Pixels.scale(input);
        match self {
            Self::BoxesScores { box_format, .. } => Box::new(boxes_scores::BoxesScores {
                boxes: outputs.values(0),
                scores: outputs.values(1),
                columns: labels,
                format: *box_format,
            }),
            Self::Yolov8 { .. } => Box::new(yolov8::Yolov8::new(outputs.values(0), labels, pixels)),
            Self::Yolov5 { .. } => Box::new(yolov5::Objectness {
                rows: outputs.values(0),
                columns: labels,
                grid: None,
                scale: pixels,
            }),
            Self::Yolox { strides, .. } => Box::new(yolov5::Objectness {
                rows: outputs.values(0),
                columns: labels,
                grid: Some(yolox::Grid::new(strides, input)),
                scale: pixels,
            }),
            Self::EndToEnd { box_unit, .. } => Box::new(end_to_end::EndToEnd {
                rows: outputs.values(0),
                scale: box_unit.scale(input),
            }),
            Self::Ssd { box_format, box_unit, first_label, .. } => Box::new(ssd::Ssd {
                boxes: outputs.values(0),
                labels: outputs.values(1),
                scores: outputs.values(2),
                format: *box_format,
                scale: box_unit.scale(input),
                first_label: *first_label,
            }),
            Self::Detr { activation, .. } => Box::new(detr::Detr {
                boxes: outputs.values(0),
                logits: outputs.values(1),
                columns: labels,
                activation: *activation,
            }),
        }
    }

    /// The suppression that its networks need by default.
    fn suppression(&self) -> Suppression {
        match self {
            Self::BoxesScores { .. }
            | Self::Yolov8 { .. }
            | Self::Yolov5 { .. }
            | Self::Yolox { .. } => Suppression::PerClass,
            Self::EndToEnd { .. } | Self::Ssd { .. } | Self::Detr { .. } => Suppression::None,
        }
    }
}

/// `head` decides which other keys there are; without it, the head is `boxes_scores`.
impl<'de> Deserialize<'de> for OutputConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let mut common = toml::Table::new();
        for key in ["first_class_id", "suppression"] {
            common.extend(table.remove_entry(key));
        }
        table.entry("head").or_insert_with(|| "boxes_scores".into());
        let Common { first_class_id, suppression } =
            common.try_into().map_err(|error| D::Error::custom(concise(&error)))?;
        let head: Head = table.try_into().map_err(|error| D::Error::custom(concise(&error)))?;
        let suppression = suppression.unwrap_or_else(|| head.suppression());
        Ok(Self { head, first_class_id, suppression })
    }
}

fn concise(error: &toml::de::Error) -> String {
    error.message().to_owned()
}

/// The keys of `[output]` that every head has.
#[derive(Deserialize)]
struct Common {
    #[serde(default)]
    first_class_id: u32,
    suppression: Option<Suppression>,
}

#[cfg(test)]
mod tests {
    use super::{BoxFormat, Head, OutputConfig, Suppression};

    fn parse(text: &str) -> Result<OutputConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn without_a_head_the_outputs_are_boxes_and_scores() {
        let text = "boxes = \"b\"\nscores = \"s\"\nbox_format = \"corners\"\nfirst_class_id = 1";
        let output = parse(text).expect("an output");
        let (boxes, scores) = ("b".to_owned(), "s".to_owned());
        let head = Head::BoxesScores { boxes, scores, box_format: BoxFormat::Corners };
        assert_eq!(output.head, head);
        assert_eq!((output.first_class_id, output.suppression), (1, Suppression::PerClass));
    }

    #[test]
    fn a_head_decides_the_other_keys() {
        let output = parse("head = \"end_to_end\"\noutput = \"o\"").expect("an output");
        assert_eq!(output.suppression, Suppression::None);
        let output = parse("head = \"yolov8\"\noutput = \"o\"\nsuppression = \"class_agnostic\"");
        assert_eq!(output.expect("an output").suppression, Suppression::ClassAgnostic);
        for (text, words) in [
            ("head = \"yolov8\"\nboxes = \"b\"", "boxes"),
            ("head = \"yolov8\"", "missing field `output`"),
            ("head = \"yolov99\"\noutput = \"o\"", "yolov99"),
            ("head = \"yolov8\"\noutput = \"o\"\nsuppression = \"some\"", "some"),
            ("boxes = \"b\"\nscores = \"s\"", "missing field `box_format`"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
