#!/usr/bin/env python3
"""Detects with deepstack-sdk: deepstack_sdk_client.py HOST:PORT PICTURE MODEL"""
import json
import sys

from deepstack_sdk import Detection, ServerConfig

address, picture, _ = sys.argv[1:]
client = Detection(ServerConfig(f"http://{address}"))
json.dump(
    [
        {
            "label": found.label,
            "confidence": found.confidence,
            "corners": [found.x_min, found.y_min, found.x_max, found.y_max],
        }
        for found in client.detectObject(picture, min_confidence=0.3)
    ],
    sys.stdout,
)
try:
    client.detectObject(b"not a picture at all, but long enough to be one")
    raise AssertionError("text is accepted as a picture")
except Exception as error:
    assert str(error) == "Invalid image", error
