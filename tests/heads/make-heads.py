#!/usr/bin/env python3
"""Writes a small network for each head of `model.toml`, and next to it what ONNX Runtime finds with it.

The weights are random, so the networks find nothing sensible, but they are built of the operators that real exports
end in, and give boxes of all kinds. `reference.json` has the detections in `cat.png` above 0.3, decoded here, in
numpy, after the published code of each family, so that it shares nothing with Spotter's own decoding. It reaches a
little lower, so that a detection just above finds its like just below.

    pip install numpy onnx onnxruntime pillow
    tests/heads/make-heads.py
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

FOLDER = Path(__file__).resolve().parent
SIDE = 64
LABELS = ["cat", "dog", "cup"]
THRESHOLD = 0.28
OVERLAP = 0.5


class Graph:
    """An ONNX graph under construction. Values are their names."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def constant(self, value, kind=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def op(self, kind, *inputs, outputs=None, **attributes):
        outputs = outputs or [f"v{len(self.nodes)}"]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def conv(self, value, channels_in, channels_out, size, stride, gain=1.0, bias=0.0):
        deviation = gain / np.sqrt(channels_in * size * size)
        weights = self.random.normal(0, deviation, (channels_out, channels_in, size, size))
        inputs = [value, self.constant(weights), self.constant(np.full(channels_out, bias))]
        return self.op("Conv", *inputs, kernel_shape=[size, size], strides=[stride, stride])

    def reshape(self, value, *shape):
        return self.op("Reshape", value, self.constant(shape, np.int64))

    def part(self, value, start, end, axis):
        bounds = [self.constant([number], np.int64) for number in (start, end, axis)]
        return self.op("Slice", value, *bounds)

    def save(self, path, inputs, outputs):
        value = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)
        graph = helper.make_graph(
            self.nodes,
            path.parent.name,
            [value(*input) for input in inputs],
            [value(*output) for output in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        assert path.stat().st_size < 100_000, path


def backbone(graph, value):
    """Features of 16 channels at stride 8, from an image of about -2 to 2."""
    value = graph.op("Relu", graph.conv(value, 3, 8, 4, 4, gain=1.5))
    return graph.op("Relu", graph.conv(value, 8, 16, 2, 2, gain=1.5))


def rows(graph, features, side, columns, **conv):
    """[1, side * side, columns] from features."""
    value = graph.conv(features, 16, columns, 1, 1, **conv)
    value = graph.reshape(value, 1, columns, side * side)
    return graph.op("Transpose", value, perm=[0, 2, 1])


def grid(side):
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    return np.stack([x.ravel(), y.ravel()], axis=1)[None]


def centre_boxes(graph, features):
    """Boxes [1, 64, 4] as centres in pixels, decoded from features."""
    raw = rows(graph, features, 8, 4, gain=1.0)
    xy = graph.op("Sigmoid", graph.part(raw, 0, 2, 2))
    xy = graph.op("Mul", graph.op("Add", xy, graph.constant(grid(8))), graph.constant(8.0))
    wh = graph.op("Tanh", graph.part(raw, 2, 4, 2))
    wh = graph.op("Mul", graph.op("Exp", wh), graph.constant(14.0))
    return graph.op("Concat", xy, wh, axis=2)


def corners(graph, boxes):
    centre, half = graph.part(boxes, 0, 2, 2), graph.part(boxes, 2, 4, 2)
    half = graph.op("Mul", half, graph.constant(0.5))
    low, high = graph.op("Sub", centre, half), graph.op("Add", centre, half)
    return graph.op("Concat", low, high, axis=2)


def probabilities(graph, features, columns, bias=-1.0):
    return graph.op("Sigmoid", rows(graph, features, 8, columns, gain=3.0, bias=bias))


def best(graph, features, count):
    """The best boxes as corners in pixels, their scores and their classes as whole numbers: [1, count, ...]."""
    boxes, scores = corners(graph, centre_boxes(graph, features)), probabilities(graph, features, 3)
    flat = graph.reshape(scores, 1, 64 * 3)
    top = ["top_scores", "top_places"]
    graph.op("TopK", flat, graph.constant([count], np.int64), outputs=top, axis=1)
    three = graph.constant(3, np.int64)
    anchor, label = graph.op("Div", top[1], three), graph.op("Mod", top[1], three)
    anchor = graph.op("Expand", graph.reshape(anchor, 1, count, 1), graph.constant([1, count, 4], np.int64))
    return graph.op("GatherElements", boxes, anchor, axis=1), top[0], label


def floats(name, *shape):
    return (name, TensorProto.FLOAT, list(shape))


def renamed(graph, value, name):
    graph.op("Identity", value, outputs=[name])


# Each of these functions builds a network, and returns its outputs.


def boxes_scores(graph, image):
    features = backbone(graph, image)
    boxes = graph.op("Div", centre_boxes(graph, features), graph.constant(float(SIDE)))
    renamed(graph, boxes, "boxes")
    renamed(graph, probabilities(graph, features, 3), "scores")
    return [floats("boxes", 1, 64, 4), floats("scores", 1, 64, 3)]


def half_outputs(graph, image):
    """The same with outputs of 16 bits, which are refused."""
    features = backbone(graph, image)
    boxes = graph.op("Div", centre_boxes(graph, features), graph.constant(float(SIDE)))
    scores = probabilities(graph, features, 3)
    for value, name in ((boxes, "boxes"), (scores, "scores")):
        graph.op("Cast", value, outputs=[name], to=TensorProto.FLOAT16)
    return [(name, TensorProto.FLOAT16, [1, 64, columns]) for name, columns in (("boxes", 4), ("scores", 3))]


def yolov8(graph, image):
    features = backbone(graph, image)
    both = graph.op("Concat", centre_boxes(graph, features), probabilities(graph, features, 3), axis=2)
    graph.op("Transpose", both, perm=[0, 2, 1], outputs=["output0"])
    return [floats("output0", 1, 7, 64)]


def yolov5(graph, image):
    image = graph.op("Cast", image, to=TensorProto.FLOAT)
    features = backbone(graph, image)
    boxes, scores = centre_boxes(graph, features), probabilities(graph, features, 4, bias=-4.0)
    graph.op("Concat", boxes, scores, axis=2, outputs=["output0"])
    return [floats("output0", 1, 64, 8)]


def yolox(graph, image):
    # Its input is not normalised.
    image = graph.op("Div", graph.op("Sub", image, graph.constant(120.0)), graph.constant(60.0))
    features, levels = backbone(graph, image), []
    for side in (8, 4, 2):
        boxes = rows(graph, features, side, 4, gain=0.5)
        scores = graph.op("Sigmoid", rows(graph, features, side, 4, gain=3.0, bias=-0.5))
        levels.append(graph.op("Concat", boxes, scores, axis=2))
        features = graph.op("AveragePool", features, kernel_shape=[2, 2], strides=[2, 2])
    graph.op("Concat", *levels, axis=1, outputs=["output"])
    return [floats("output", 1, 84, 8)]


def end_to_end(graph, image):
    image = graph.op("Transpose", graph.op("Cast", image, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    image = graph.op("Div", graph.op("Sub", image, graph.constant(120.0)), graph.constant(60.0))
    boxes, scores, labels = best(graph, backbone(graph, image), 20)
    labels = graph.op("Cast", labels, to=TensorProto.FLOAT)
    columns = [graph.reshape(value, 1, 20, 1) for value in (scores, labels)]
    graph.op("Concat", boxes, *columns, axis=2, outputs=["output0"])
    return [floats("output0", 1, 20, 6)]


def ssd_torchvision(graph, image):
    boxes, scores, labels = best(graph, backbone(graph, image), 20)
    renamed(graph, graph.reshape(boxes, 20, 4), "boxes")
    renamed(graph, graph.reshape(graph.op("Add", labels, graph.constant(1, np.int64)), 20), "labels")
    renamed(graph, graph.reshape(scores, 20), "scores")
    return [floats("boxes", 20, 4), ("labels", TensorProto.INT64, [20]), floats("scores", 20)]


def ssd_tensorflow(graph, image):
    image = graph.op("Transpose", graph.op("Cast", image, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    image = graph.op("Div", graph.op("Sub", image, graph.constant(120.0)), graph.constant(60.0))
    boxes, scores, labels = best(graph, backbone(graph, image), 20)
    order = graph.constant([1, 0, 3, 2], np.int64)
    boxes = graph.op("Gather", graph.op("Div", boxes, graph.constant(float(SIDE))), order, axis=2)
    renamed(graph, boxes, "detection_boxes")
    labels = graph.op("Cast", labels, to=TensorProto.FLOAT)
    renamed(graph, graph.op("Add", labels, graph.constant(1.0)), "detection_classes")
    renamed(graph, scores, "detection_scores")
    names = ["detection_boxes", "detection_classes", "detection_scores"]
    return [floats(names[0], 1, 20, 4), floats(names[1], 1, 20), floats(names[2], 1, 20)]


def detr(columns):
    def build(graph, image):
        features = backbone(graph, image)
        boxes = graph.op("Div", centre_boxes(graph, features), graph.constant(float(SIDE)))
        renamed(graph, boxes, "pred_boxes")
        renamed(graph, rows(graph, features, 8, columns, gain=3.0, bias=-1.0), "logits")
        return [floats("logits", 1, 64, columns), floats("pred_boxes", 1, 64, 4)]

    return build


# The published decoding of each family: boxes as corners in pixels, scores, labels.


def many(boxes, scores):
    """Every class of every box."""
    anchors, labels = np.nonzero(scores > THRESHOLD)
    return boxes[anchors], scores[anchors, labels], labels


def to_corners(boxes):
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def decode_objectness(output):
    return many(to_corners(output[:, :4]), output[:, 4:5] * output[:, 5:])


def decode_yolox(output):
    cells, strides = [], []
    for stride in (8, 16, 32):
        cells.append(grid(SIDE // stride)[0])
        strides.append(np.full((len(cells[-1]), 1), stride))
    cells, strides = np.concatenate(cells), np.concatenate(strides)
    output = output.copy()
    output[:, :2] = (output[:, :2] + cells) * strides
    output[:, 2:4] = np.exp(output[:, 2:4]) * strides
    return decode_objectness(output)


def decode_softmax(logits, boxes):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
    return to_corners(boxes) * SIDE, scores.max(axis=1), scores.argmax(axis=1)


def decode_end_to_end(output):
    return output[:, :4], output[:, 4], output[:, 5].astype(int)


NORMALISED = "scale = 0.00392156862745098\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]"
NCHW, NHWC = [1, 3, SIDE, SIDE], [1, SIDE, SIDE, 3]


def normalised(pixels):
    return (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


HEADS = {
    "boxes_scores": {
        "build": boxes_scores,
        "input": f'layout = "nchw"\nelement = "f32"\n{NORMALISED}',
        "output": 'boxes = "boxes"\nscores = "scores"\nbox_format = "centre"',
        "feed": normalised,
        "decode": lambda boxes, scores: many(to_corners(boxes) * SIDE, scores),
        "suppress": True,
    },
    "yolov8": {
        "build": yolov8,
        "input": 'layout = "nchw"\nelement = "f32"\nscale = 0.00392156862745098',
        "output": 'head = "yolov8"\noutput = "output0"',
        "feed": lambda pixels: pixels / 255,
        "decode": lambda output: many(to_corners(output[:4].T), output[4:].T),
        "suppress": True,
    },
    "yolov5": {
        "build": yolov5,
        "kind": np.float16,
        "input": 'layout = "nchw"\nelement = "f16"\nscale = 0.00392156862745098',
        "output": 'head = "yolov5"\noutput = "output0"',
        "feed": lambda pixels: pixels / 255,
        "decode": decode_objectness,
        "suppress": True,
    },
    "yolox": {
        "build": yolox,
        "input": 'layout = "nchw"\nchannel_order = "bgr"\nelement = "f32"',
        "output": 'head = "yolox"\noutput = "output"',
        "feed": lambda pixels: pixels[:, :, ::-1],
        "decode": decode_yolox,
        "suppress": True,
    },
    "end_to_end": {
        "build": end_to_end,
        "kind": np.uint8,
        "layout": NHWC,
        "input": "",
        "output": 'head = "end_to_end"\noutput = "output0"',
        "feed": lambda pixels: pixels,
        "decode": decode_end_to_end,
    },
    "ssd_torchvision": {
        "build": ssd_torchvision,
        "input": f'layout = "nchw"\nelement = "f32"\n{NORMALISED}',
        "output": 'head = "ssd"\nboxes = "boxes"\nlabels = "labels"\nscores = "scores"\nfirst_class_id = 1',
        "feed": normalised,
        "decode": lambda boxes, labels, scores: (boxes, scores, labels - 1),
        "first_class_id": 1,
    },
    "ssd_tensorflow": {
        "build": ssd_tensorflow,
        "kind": np.uint8,
        "layout": NHWC,
        "input": "",
        "output": (
            'head = "ssd"\nboxes = "detection_boxes"\nlabels = "detection_classes"\n'
            'scores = "detection_scores"\nbox_format = "corners_yx"\nbox_unit = "fractions"\nfirst_class_id = 1'
        ),
        "feed": lambda pixels: pixels,
        "decode": lambda boxes, labels, scores: (boxes[:, [1, 0, 3, 2]] * SIDE, scores, labels.astype(int) - 1),
        "first_class_id": 1,
    },
    "detr_sigmoid": {
        "build": detr(3),
        "input": f'layout = "nchw"\nelement = "f32"\n{NORMALISED}',
        "output": 'head = "detr"\nboxes = "pred_boxes"\nlogits = "logits"\nactivation = "sigmoid"',
        "feed": normalised,
        "decode": lambda logits, boxes: many(to_corners(boxes) * SIDE, 1 / (1 + np.exp(-logits))),
    },
    "detr_softmax": {
        "build": detr(4),
        "input": f'layout = "nchw"\nelement = "f32"\n{NORMALISED}',
        "output": 'head = "detr"\nboxes = "pred_boxes"\nlogits = "logits"\nactivation = "softmax"',
        "feed": normalised,
        "decode": decode_softmax,
    },
}


def main():
    with Image.open(FOLDER.parent / "pictures" / "skimage_chelsea.png") as file:
        cat = file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    cat.save(FOLDER / "cat.png", optimize=True)
    pixels = np.asarray(cat)
    for seed, (name, head) in enumerate(HEADS.items(), start=1):
        folder = FOLDER / name
        folder.mkdir(exist_ok=True)
        kind, layout = head.get("kind", np.float32), head.get("layout", NCHW)
        graph = Graph(seed)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        outputs = head["build"](graph, "images")
        graph.save(folder / "model.onnx", [("images", element, layout)], outputs)
        (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
        (folder / "model.toml").write_text(manifest(name, head))
        found = detect(folder / "model.onnx", pixels, head, kind, layout)
        (folder / "reference.json").write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {len(found['detections'])} detections")
        assert 4 <= len(found["detections"]) <= 100, name
    graph = Graph(1)
    graph.save(FOLDER / "boxes_scores" / "half_outputs.onnx", [floats("images", *NCHW)], half_outputs(graph, "images"))


def manifest(name, head):
    return f"""# Written by make-heads.py.
name = "{name}"

[input]
name = "images"
width = {SIDE}
height = {SIDE}
fit = "stretch"
{head["input"]}

[output]
{head["output"]}

[thresholds]
min_confidence = 0.3
iou_threshold = {OVERLAP}
max_detections = 100
""".replace("\n\n\n", "\n\n")


def detect(network, pixels, head, kind, layout):
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    image = head["feed"](pixels)
    image = image if layout == NHWC else np.transpose(image, (2, 0, 1))
    outputs = session.run(None, {"images": np.ascontiguousarray(image[None], kind)})
    # Without the batch axis, where there is one.
    names = [output.name for output in session.get_outputs()]
    outputs = [value if name in ("boxes", "labels", "scores") and len(value) > 1 else value[0]
               for name, value in zip(names, outputs)]
    boxes, scores, labels = head["decode"](*outputs)
    boxes = np.clip(boxes, 0, SIDE)
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] < THRESHOLD:
            break
        rivals = [other for other in kept if labels[other] == labels[index]]
        if head.get("suppress") and any(overlap(boxes[other], boxes[index]) > OVERLAP for other in rivals):
            continue
        kept.append(index)
    detections = [
        {
            "label": LABELS[labels[index]],
            "class_id": int(labels[index]) + head.get("first_class_id", 0),
            "confidence": round(float(scores[index]), 5),
            "box": [round(float(number), 3) for number in boxes[index]],
        }
        for index in kept
    ]
    return {"width": SIDE, "height": SIDE, "detections": detections}


def overlap(a, b):
    area = lambda box: max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
    common = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return common / (area(a) + area(b) - common)


if __name__ == "__main__":
    main()
