#!/usr/bin/env python3
"""Detects with inference-sdk: roboflow_client.py HOST:PORT PICTURE MODEL"""
import json
import sys

from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError

address, picture, model = sys.argv[1:]
client = InferenceHTTPClient(api_url=f"http://{address}", api_key="unused")
# Spotter's default, to compare with /detect.
client.configure(InferenceConfiguration(confidence_threshold=0.3, iou_threshold=0.5))
report = client.infer(picture, model_id=model)
both = client.infer([picture, picture], model_id=model)
assert [one["predictions"][0]["class"] for one in both] == [report["predictions"][0]["class"]] * 2
try:
    client.infer(picture, model_id="unknown/1")
    raise AssertionError("an unknown model is accepted")
except HTTPCallErrorError as error:
    assert error.status_code == 404 and "unknown/1" in str(error), error
json.dump(
    [
        {
            "label": found["class"],
            "confidence": found["confidence"],
            "corners": [
                found["x"] - found["width"] / 2,
                found["y"] - found["height"] / 2,
                found["x"] + found["width"] / 2,
                found["y"] + found["height"] / 2,
            ],
        }
        for found in report["predictions"]
    ],
    sys.stdout,
)
