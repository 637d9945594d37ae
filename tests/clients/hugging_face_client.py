#!/usr/bin/env python3
"""Detects with huggingface_hub: hugging_face_client.py HOST:PORT PICTURE MODEL"""
import json
import sys

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

address, picture, model = sys.argv[1:]


def detect(url, image, **options):
    client = InferenceClient(model=url)
    return [
        {
            "label": found.label,
            "confidence": found.score,
            "corners": [found.box.xmin, found.box.ymin, found.box.xmax, found.box.ymax],
        }
        for found in client.object_detection(image, **options)
    ]


root = f"http://{address}"
found = detect(root, picture, threshold=0.3)
assert found == detect(f"{root}/models/{model}", picture, threshold=0.3)
confident = [one for one in found if one["confidence"] >= 0.5]
with open(picture, "rb") as file:
    assert confident == detect(root, file.read()), "without parameters, the threshold is 0.5"
try:
    detect(root, b"not a picture at all, but long enough to be one")
    raise AssertionError("text is accepted as a picture")
except HfHubHTTPError as error:
    assert error.response.status_code == 422 and "not a picture" in str(error), error
json.dump(found, sys.stdout)
