#!/usr/bin/env python3
"""Detects with tritonclient over HTTP: triton_client.py HOST:PORT PICTURE MODEL"""
import base64
import json
import sys
import urllib.request

import numpy
import tritonclient.http as triton
from PIL import Image

address, picture, model = sys.argv[1:]
with open(picture, "rb") as file:
    content = file.read()
client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
assert client.is_model_ready(model, "1") and not client.is_model_ready("unknown")
assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
outputs = [output["name"] for output in client.get_model_metadata(model)["outputs"]]
with urllib.request.urlopen(f"http://{address}/labels") as reply:
    labels = {entry["class_id"]: entry["label"] for entry in json.load(reply)["labels"]}


def infer(tensor, datatype, binary, **options):
    image = triton.InferInput("image", list(tensor.shape), datatype)
    image.set_data_from_numpy(tensor, binary_data=binary)
    parameters = {"min_confidence": 0.3}
    result = client.infer(model, [image], request_id="7", parameters=parameters, **options)
    assert result.get_response()["id"] == "7"
    boxes, scores, classes, counts = (result.as_numpy(name) for name in outputs)
    assert boxes.shape == (*scores.shape, 4) and boxes.dtype == numpy.float32
    assert classes.dtype == counts.dtype == numpy.int32
    return [
        [
            {
                "label": labels[int(classes[index][row])],
                "confidence": float(scores[index][row]),
                "corners": boxes[index][row].tolist(),
            }
            for row in range(count)
        ]
        for index, count in enumerate(counts)
    ]


[found] = infer(numpy.array([content], dtype=numpy.object_), "BYTES", True)
text = numpy.array([base64.b64encode(content).decode()], dtype=numpy.object_)
as_json = [triton.InferRequestedOutput(name, binary_data=False) for name in outputs]
assert infer(text, "BYTES", False, outputs=as_json, model_version="1") == [found]
pixels = numpy.asarray(Image.open(picture).convert("RGB"))
for frame in infer(numpy.stack([pixels, pixels]), "UINT8", True):
    assert [one["label"] for one in frame] == [one["label"] for one in found]
try:
    infer(numpy.array([b"no picture"], dtype=numpy.object_), "BYTES", True)
    raise AssertionError("text is accepted as a picture")
except triton.InferenceServerException as error:
    assert error.status() == "422" and "not a picture" in error.message(), error
json.dump(found, sys.stdout)
