"""The server that Spotter is compared with: the same network, as it was published, behind Flask, on TensorFlow.

Run by the benchmark, with function/convert on the path: gunicorn --chdir tests/benches/peers flask_tensorflow:app
"""

import base64
import io
import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy
import tensorflow
from flask import Flask, jsonify, request
from google.protobuf.json_format import ParseDict
from PIL import Image

from graph_model import GraphModel
from suppression import suppress

# The graph resizes pictures in a loop of TensorFlow 1, which ends here.
LOOP, PIXELS = "Preprocessor/map/", "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3"
BOXES, SCORES = "Postprocessor/ExpandDims_1:0", "Postprocessor/Slice:0"


def load(path):
    """The network as a function, from the graph model of TensorFlow.js at this path."""
    source = GraphModel(lambda file: file.read_bytes(), path)
    graph = tensorflow.compat.v1.GraphDef()
    graph.node.add(name=PIXELS, op="Placeholder").attr["dtype"].type = tensorflow.float32.as_datatype_enum
    for name, node in source.nodes.items():
        if name.startswith(LOOP):
            continue
        constant = source.constants.get(name)
        if constant is None:
            ParseDict({**node, "attr": {key: readable(value) for key, value in node["attr"].items()}}, graph.node.add())
        else:
            added = graph.node.add(name=name, op="Const")
            added.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto(constant))
            added.attr["dtype"].type = added.attr["value"].tensor.dtype
    imported = tensorflow.compat.v1.wrap_function(lambda: tensorflow.graph_util.import_graph_def(graph, name=""), [])
    tensor = imported.graph.get_tensor_by_name
    return imported.prune(tensor(PIXELS + ":0"), [tensor(BOXES), tensor(SCORES)])


def readable(attribute):
    """An attribute whose text is in base64, as protobuf expects it; older converters write a list of bytes."""
    if isinstance(attribute.get("s"), list):
        return {"s": base64.b64encode(bytes(attribute["s"])).decode()}
    return attribute


network = load(Path(os.environ["MODEL"]) / "model.json")
labels = open(os.environ["LABELS"]).read().split("\n")
app = Flask(__name__)


@app.post("/detect")
def detect():
    picture = Image.open(io.BytesIO(request.get_data())).convert("RGB")
    pixels = numpy.asarray(picture.resize((300, 300), Image.BILINEAR), numpy.float32)[None]
    boxes, scores = network(tensorflow.constant(pixels))
    corners = boxes.numpy()[0, :, 0][:, [1, 0, 3, 2]]
    return jsonify(detections=suppress(corners, scores.numpy()[0], labels, picture.size))
