"""Compares two networks: whether they have the same nodes and constants, and what they compute for a picture."""

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image


def same_nodes(left, right):
    """Follows both graphs from their outputs to their inputs.

    Returns how many nodes they have, and by how much their constants differ at most, as a fraction of each constant's
    largest number. Names of values do not matter.
    """
    left, right = _Graph(left), _Graph(right)
    assert [output.name for output in left.outputs] == [output.name for output in right.outputs]
    pending = [(output.name, output.name) for output in left.outputs]
    seen, difference = {}, 0.0
    while pending:
        ours, theirs = pending.pop()
        if ours in seen:
            assert seen[ours] == theirs, f"{ours} is both {seen[ours]} and {theirs}"
            continue
        seen[ours] = theirs
        if ours in left.constants:
            difference = max(difference, _difference(left.constants[ours], right.constants[theirs], ours))
        elif ours in left.nodes:
            ours, theirs = left.nodes[ours], right.nodes[theirs]
            assert _kind(ours) == _kind(theirs), f"{ours} is not {theirs}"
            pending += zip(ours.input, theirs.input)
            pending += zip(ours.output, theirs.output)
        else:
            # An input, or one that is left out.
            assert ours == theirs, f"{ours} is not {theirs}"
    assert len(left.all) == len(right.all), f"{len(left.all)} nodes and {len(right.all)}"
    return len(left.all), difference


class _Graph:
    def __init__(self, model):
        graph = model.graph
        self.outputs, self.all = sorted(graph.output, key=lambda value: value.name), graph.node
        self.nodes = {name: node for node in graph.node for name in node.output}
        self.constants = {value.name: numpy_helper.to_array(value) for value in graph.initializer}


def _kind(node):
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return node.op_type, attributes, len(node.input), len(node.output)


def _difference(ours, theirs, name):
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def outputs(model, side, picture):
    """The network's outputs by name for a picture that is stretched to its input."""
    pixels = np.asarray(Image.open(picture).convert("RGB").resize((side, side)))[None]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": pixels})))
