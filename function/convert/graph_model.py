"""Reads a graph model of TensorFlow.js: `model.json` with the nodes, and the files of weights beside it."""

import base64
import json
from collections import Counter

import numpy as np


class GraphModel:
    """The nodes of a graph by name, and the values of its constants."""

    def __init__(self, read, path):
        """`read` returns the content of a file by its path; `path` is that of `model.json`."""
        model = json.loads(read(path))
        self.nodes = {node["name"]: node for node in model["modelTopology"]["node"]}
        self.constants = {}
        for group in model["weightsManifest"]:
            content = b"".join(read(path.with_name(file)) for file in group["paths"])
            self._read_weights(group["weights"], content)
        self.uses = Counter(
            _without_port(name) for node in self.nodes.values() for name in node.get("input", [])
        )

    def _read_weights(self, weights, content):
        offset = 0
        for weight in weights:
            shape, kind = weight["shape"], np.dtype(weight["dtype"])
            # The only quantization in use here: 32 bits that are stored as 16.
            stored = np.dtype(weight.get("quantization", weight)["dtype"])
            count = int(np.prod(shape))
            value = np.frombuffer(content, stored.newbyteorder("<"), count, offset)
            self.constants[weight["name"]] = value.reshape(shape).astype(kind)
            offset += count * stored.itemsize
        assert offset == len(content), "the weights are not as long as the manifest says"

    def constant(self, name):
        """The value of a constant, or None if the name is another node's."""
        return self.constants.get(_without_port(name))

    def node(self, name):
        return self.nodes[_without_port(name)]


def _without_port(name):
    return name.split(":")[0]


def attribute(node, name):
    """An attribute as a number, a text or a list of numbers."""
    ((kind, value),) = node["attr"][name].items()
    if kind == "f":
        return float(value)
    if kind == "b":
        return bool(value)
    if kind == "s":
        # Older converters write a list of bytes.
        return (bytes(value) if isinstance(value, list) else base64.b64decode(value)).decode()
    if kind == "list":
        return [int(number) for number in value["i"]]
    raise ValueError(f"{node['name']} has the attribute {name} of the kind {kind}")
