//! YOLOX-Nano as Megvii publishes it, which comes with the shared pictures and is not in the repository.

use std::path::Path;

use tempfile::TempDir;

use crate::baked;
use crate::server::Server;

const MANIFEST: &str = r#"
name = "yolox_nano"
[input]
name = "images"
width = 416
height = 416
layout = "nchw"
channel_order = "bgr"
element = "f32"
fit = "letterbox"
position = "top_left"
padding = 114
antialias = true
[output]
head = "yolox"
output = "output"
[thresholds]
min_confidence = 0.3
iou_threshold = 0.5
max_detections = 100
"#;

/// Bakes the network in this folder of shared files, and serves it.
pub fn serve(shared: &Path) -> (Server, [TempDir; 2]) {
    let read = |path: &str| std::fs::read(shared.join("model").join(path)).expect("a file");
    let labels = String::from_utf8(read("labels_coco80.txt")).expect("labels");
    baked::serve(MANIFEST, &labels, &read("third-party/yolox_nano_coco_416.onnx"))
}
