#!/usr/bin/env python3
"""Detects with tritonclient over gRPC: triton_grpc_client.py HOST:PORT PICTURE MODEL"""
import json
import sys
import urllib.request

import numpy
import tritonclient.grpc as triton

address, picture, model = sys.argv[1:]
with open(picture, "rb") as file:
    content = file.read()
client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
assert client.is_model_ready(model, "1") and not client.is_model_ready("unknown")
assert client.get_server_metadata().name == "spotter"
outputs = [output.name for output in client.get_model_metadata(model).outputs]
with urllib.request.urlopen(f"http://{address}/labels") as reply:
    labels = {entry["class_id"]: entry["label"] for entry in json.load(reply)["labels"]}


def infer(content, **options):
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(numpy.array([content], dtype=numpy.object_))
    parameters = {"min_confidence": 0.3}
    result = client.infer(model, [image], request_id="7", parameters=parameters, **options)
    assert result.get_response().id == "7"
    return [result.as_numpy(name) for name in outputs]


boxes, scores, classes, counts = infer(content)
assert boxes.shape == (*scores.shape, 4) and boxes.dtype == numpy.float32
assert classes.dtype == counts.dtype == numpy.int32
assert (infer(content, model_version="1")[0] == boxes).all()
wanted = [triton.InferRequestedOutput("num_detections")]
assert infer(content, outputs=wanted)[0] is None
for bad, code, words in [
    (lambda: infer(b"no picture"), "INVALID_ARGUMENT", "not a picture"),
    (lambda: client.get_model_metadata("unknown"), "NOT_FOUND", "no model"),
    # A picture is sent as it is, since compression would not make it smaller.
    (lambda: infer(bytes(9999), compression_algorithm="gzip"), "UNIMPLEMENTED", "compressed"),
    (lambda: client.get_model_repository_index(), "UNIMPLEMENTED", "nothing at"),
]:
    try:
        bad()
        raise AssertionError(f"{words} is no error")
    except triton.InferenceServerException as error:
        assert error.status() == f"StatusCode.{code}" and words in error.message(), error
found = [
    {
        "label": labels[int(classes[0][row])],
        "confidence": float(scores[0][row]),
        "corners": boxes[0][row].tolist(),
    }
    for row in range(counts[0])
]
json.dump(found, sys.stdout)
