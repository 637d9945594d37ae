"""The server that Spotter is compared with: the same network behind Flask, on ONNX Runtime.

Run by the benchmark: gunicorn --chdir tests/benches/peers flask_onnxruntime:app
"""

import io
import os

import numpy
import onnxruntime
from flask import Flask, jsonify, request
from PIL import Image

settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], settings, providers=["CPUExecutionProvider"]
)
labels = open(os.environ["LABELS"]).read().split("\n")
app = Flask(__name__)


@app.post("/detect")
def detect():
    picture = Image.open(io.BytesIO(request.get_data())).convert("RGB")
    pixels = numpy.asarray(picture.resize((300, 300), Image.BILINEAR))[None]
    boxes, scores = session.run(["boxes", "scores"], {"image": pixels})
    return jsonify(detections=suppress(boxes[0], scores[0], picture.size))


def suppress(boxes, scores, size, least=0.4, overlap=0.5):
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
