"""Non-maximum suppression within each class, as the servers in Python do it."""

import numpy


def suppress(boxes, scores, labels, size, least=0.4, overlap=0.5):
    """The detections in a picture of this size, from boxes in fractions of it: x and y of two corners."""
    kept = []
    anchors, columns = numpy.where(scores >= least)
    for index in numpy.argsort(-scores[anchors, columns]):
        anchor, column = anchors[index], columns[index]
        box = boxes[anchor]
        if all(other != column or iou(box, at) <= overlap for other, at, _ in kept):
            kept.append((column, box, scores[anchor, column]))
    scale = numpy.array(size * 2)
    return [
        {"label": labels[column], "confidence": float(score), "box": (box * scale).tolist()}
        for column, box, score in kept
    ]


def iou(a, b):
    left, top = numpy.maximum(a[:2], b[:2])
    right, bottom = numpy.minimum(a[2:], b[2:])
    common = max(right - left, 0) * max(bottom - top, 0)
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return common / (area(a) + area(b) - common)
