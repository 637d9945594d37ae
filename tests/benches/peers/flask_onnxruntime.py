"""The server that Spotter is compared with: the same network behind Flask, on ONNX Runtime.

Run by the benchmark: gunicorn --chdir tests/benches/peers flask_onnxruntime:app
"""

import io
import os

import numpy
import onnxruntime
from flask import Flask, jsonify, request
from PIL import Image

from suppression import suppress

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
    return jsonify(detections=suppress(boxes[0], scores[0], labels, picture.size))
