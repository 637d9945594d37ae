#!/usr/bin/env python3
"""Detects with deepstack-python: deepstack_client.py HOST:PORT PICTURE MODEL"""
import json
import sys

from deepstack.core import DeepstackException, DeepstackObject

address, picture, model = sys.argv[1:]
host, port = address.split(":")
with open(picture, "rb") as file:
    content = file.read()


def detect(**options):
    client = DeepstackObject(host, int(port), min_confidence=0.3, **options)
    return [
        {
            "label": found["label"],
            "confidence": found["confidence"],
            "corners": [found["x_min"], found["y_min"], found["x_max"], found["y_max"]],
        }
        for found in client.detect(content)
    ]


found = detect()
assert found == detect(custom_model=model), "the custom model finds something else"
try:
    detect(custom_model="unknown")
    raise AssertionError("an unknown model is accepted")
except DeepstackException as error:
    assert "404" in str(error), error
json.dump(found, sys.stdout)
