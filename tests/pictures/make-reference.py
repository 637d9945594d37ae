#!/usr/bin/env python3
"""Writes `reference.json` and `resized/`: what ONNX Runtime finds in the pictures beside it.

    pip install numpy onnxruntime pillow
    tests/pictures/make-reference.py            # writes both
    tests/pictures/make-reference.py --shake    # reports how stable each picture's boxes are

The pipeline, step by step, without any of Spotter's code:

1. Pillow decodes the picture to 8-bit RGB.
2. It is resized to the network's 300x300, each side on its own, by half-pixel bilinear: the centre
   of output pixel i lies at (i + 0.5) * length / 300 - 0.5 of the input, within its first and last
   pixel; two neighbours are weighed by their distance, columns first, then rows, in 64-bit floats;
   the result is rounded to whole numbers, halves to the even one. There is no antialiasing.
3. ONNX Runtime runs the network of `function/model/ssdlite_mobilenet_v2` on the CPU.
4. Every score of 0.05 or more is a candidate: its anchor's box, in pixels of the picture, within it.
5. Of each class, from the most confident down, a candidate is kept if its intersection over union
   with each one kept before it is 0.5 or less.
"""

import argparse
import json
from pathlib import Path

import numpy
import onnxruntime
from PIL import Image

FOLDER = Path(__file__).resolve().parent
MODEL = FOLDER.parent.parent / "function/model/ssdlite_mobilenet_v2"
SIDE = 300
LEAST_CONFIDENCE = 0.05
MOST_OVERLAP = 0.5
FIRST_CLASS_ID = 1
PICTURES = ("skimage_*", "mosaic_*", "turned_*")
# The pictures whose network input is stored too: enough for a hundred boxes above 0.1, and no more, since
# each takes 150 kB.
RESIZED = [
    "mosaic_astronauts.jpg",
    "mosaic_cups.jpg",
    "mosaic_medium.jpg",
    "mosaic_mixed.jpg",
    "skimage_astronaut.png",
    "skimage_chelsea.png",
    "skimage_coffee.png",
]


def main():
    parser = argparse.ArgumentParser(description="Makes reference.json and resized/.")
    parser.add_argument("--shake", action="store_true", help="write nothing; see shake()")
    arguments = parser.parse_args()
    network = Network()
    names = sorted(path.name for glob in PICTURES for path in FOLDER.glob(glob))
    references = {}
    for name in names:
        with Image.open(FOLDER / name) as file:
            pixels = numpy.asarray(file.convert("RGB"))
        if arguments.shake:
            print(name, shake(network, pixels))
            continue
        fed = resize(pixels)
        references[name] = reference(network.detect(fed, size_of(pixels)), size_of(pixels))
        if name in RESIZED:
            path = (FOLDER / "resized" / name).with_suffix(".png")
            Image.fromarray(fed).save(path, optimize=True)
    if references:
        (FOLDER / "reference.json").write_text(to_json(references))


class Network:
    """The network under ONNX Runtime, with the names of its classes."""

    def __init__(self, path=MODEL / "model.onnx"):
        self.labels = (MODEL / "labels.txt").read_text().splitlines()
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def detect(self, fed, size):
        """Detections in a picture of this size, the most confident first, from its 300x300."""
        boxes, scores = self.session.run(["boxes", "scores"], {"image": fed[None]})
        boxes = numpy.clip(boxes[0], 0, 1) * numpy.array(size * 2)
        anchors, columns = numpy.where(scores[0] >= LEAST_CONFIDENCE)
        confidences = scores[0][anchors, columns]
        kept = []
        for index in numpy.argsort(-confidences, kind="stable"):
            column, box = columns[index], boxes[anchors[index]]
            same_class = [other for other_column, _, other in kept if other_column == column]
            # A column that the data set does not use has no name.
            is_used = self.labels[column] != "-"
            if is_used and all(overlap(box, other) <= MOST_OVERLAP for other in same_class):
                kept.append((column, confidences[index], box))
        return [
            {
                "label": self.labels[column],
                "class_id": int(column) + FIRST_CLASS_ID,
                "confidence": round(float(confidence), 5),
                "box": [round(float(corner), 2) for corner in box],
            }
            for column, confidence, box in kept
        ]


def size_of(pixels):
    height, width, _ = pixels.shape
    return width, height


def resize(pixels):
    result = pixels.astype(numpy.float64)
    for axis in (1, 0):
        length = pixels.shape[axis]
        at = numpy.clip((numpy.arange(SIDE) + 0.5) * length / SIDE - 0.5, 0, length - 1)
        low = numpy.floor(at).astype(int)
        high = numpy.minimum(low + 1, length - 1)
        weight = numpy.expand_dims(at - low, axis=(1, 2) if axis == 0 else (0, 2))
        result = result.take(low, axis) * (1 - weight) + result.take(high, axis) * weight
    return numpy.rint(result).astype(numpy.uint8)


def overlap(a, b):
    """Intersection over union."""
    low, high = numpy.maximum(a[:2], b[:2]), numpy.minimum(a[2:], b[2:])
    common = numpy.prod(numpy.maximum(high - low, 0))
    total = numpy.prod(a[2:] - a[:2]) + numpy.prod(b[2:] - b[:2]) - common
    return common / total if total > 0 else 0


def reference(detections, size):
    return {"width": size[0], "height": size[1], "detections": detections}


def to_json(references):
    """JSON with a line for each detection, so that a difference can be read."""
    pictures = []
    for name, one in references.items():
        lines = ",\n".join("   " + json.dumps(detection) for detection in one["detections"])
        size = f'"width": {one["width"]}, "height": {one["height"]}'
        pictures.append(f' "{name}": {{\n  {size},\n  "detections": [\n{lines}\n  ]\n }}')
    return "{\n" + ",\n".join(pictures) + "\n}\n"


def shake(network, pixels, times=8, most=0.05, least=0.9):
    """How many boxes above 0.1 there are, and how many of them a shaken picture does not give.

    Two decoders of JPEG differ by about one grey level. Each shake adds -1, 0 or 1 to every value;
    a box is lost that then has none of its class within `most` of its confidence that overlaps it
    by `least`. Where many are lost, a picture tells more of rounding than of a runtime.
    """
    chance = numpy.random.default_rng(1)
    size = size_of(pixels)
    wanted = [found for found in network.detect(resize(pixels), size) if found["confidence"] > 0.1]
    lost = 0
    for _ in range(times):
        shaken = numpy.clip(pixels + chance.integers(-1, 2, pixels.shape), 0, 255)
        found = network.detect(resize(shaken), size)
        lost += sum(not any(is_same(a, b, most, least) for b in found) for a in wanted)
    return f"{len(wanted)} boxes above 0.1, {lost / times:.1f} lost to a shake"


def is_same(a, b, most, least):
    return (
        a["label"] == b["label"]
        and abs(a["confidence"] - b["confidence"]) <= most
        and overlap(numpy.array(a["box"]), numpy.array(b["box"])) >= least
    )


if __name__ == "__main__":
    main()
