"""Translates nodes of TensorFlow to nodes of ONNX.

TensorFlow's convolutions have the channels last, ONNX's have them first. The ONNX graph has them first throughout: a
transposition is only noted, and most of them cancel each other. A padding is noted too, for the convolution that
follows, and factors and biases that follow a convolution become part of it.
"""

from dataclasses import dataclass, replace

import numpy as np

from graph_model import attribute

CHANNELS_LAST = (0, 2, 3, 1)
NO_PADDING = ((0, 0),) * 4


@dataclass(frozen=True)
class Value:
    """A value of the ONNX graph, with its channels first."""

    name: str
    # Height and width.
    size: tuple
    # TensorFlow's value has this order of axes, and is padded: (before, after) for each axis of the ONNX value.
    order: tuple = CHANNELS_LAST
    padding: tuple = NO_PADDING


@dataclass
class Convolution:
    """A convolution that is not in the graph yet."""

    input: str
    size: tuple
    weights: np.ndarray
    bias: np.ndarray
    attributes: dict
    # The name of a value that is added to it.
    addend: str | None = None


class Translation:
    """Translates nodes on demand. `values` holds those that are translated already: at first, the input."""

    def __init__(self, source, graph, values):
        self.source, self.graph, self.values = source, graph, values

    def value(self, name):
        """The value of TensorFlow's node of this name, translated with all that it needs."""
        value = self._translated(name)
        if isinstance(value, Convolution):
            weights, bias = self.graph.weights(value.weights), self.graph.constant(value.bias)
            output = self.graph.op("Conv", value.input, weights, bias, **value.attributes)
            if value.addend:
                output = self.graph.op("Add", output, value.addend)
            value = self.values[name] = Value(output, value.size)
        return value

    def plain(self, name):
        """The name of the value in the ONNX graph, with its axes in TensorFlow's order."""
        value = self.value(name)
        assert value.padding == NO_PADDING, name
        is_plain = value.order == (0, 1, 2, 3)
        return value.name if is_plain else self.graph.op("Transpose", value.name, perm=value.order)

    def _translated(self, name):
        if name not in self.values:
            node = self.source.node(name)
            constants = [self.source.constant(input) for input in node["input"]]
            inputs = [input for input, constant in zip(node["input"], constants) if constant is None]
            constants = [constant for constant in constants if constant is not None]
            self.values[name] = getattr(self, f"_{node['op'].lower()}")(node, inputs, *constants)
        return self.values[name]

    def _open(self, name):
        """The convolution of this name, if nothing else uses it; otherwise None."""
        value = self._translated(name)
        return value if isinstance(value, Convolution) and self.source.uses[name] == 1 else None

    # One method for each operator of TensorFlow.

    def _conv2d(self, node, inputs, weights):
        return self._convolution(node, inputs, weights.transpose(3, 2, 0, 1), 1)

    def _depthwiseconv2dnative(self, node, inputs, weights):
        return self._convolution(node, inputs, weights.transpose(2, 3, 0, 1), weights.shape[2])

    def _convolution(self, node, inputs, weights, group):
        value, sides = self.value(inputs[0]), weights.shape[2:]
        steps = attribute(node, "strides")[1:3]
        pads, size = self._pads(node, value, sides, steps)
        attributes = dict(dilations=[1, 1], group=group, kernel_shape=sides, pads=pads, strides=steps)
        bias = np.zeros(len(weights), np.float32)
        return Convolution(value.name, size, weights, bias, attributes)

    def _maxpool(self, node, inputs):
        value, sides = self.value(inputs[0]), attribute(node, "ksize")[1:3]
        steps = attribute(node, "strides")[1:3]
        pads, size = self._pads(node, value, sides, steps)
        return Value(self.graph.op("MaxPool", value.name, kernel_shape=sides, pads=pads, strides=steps), size)

    def _pads(self, node, value, sides, steps):
        """ONNX's padding of a window, and the size of the result."""
        assert value.order == CHANNELS_LAST, node["name"]
        if attribute(node, "padding") == "SAME":
            size = tuple(-(-length // step) for length, step in zip(value.size, steps))
            lacking = [
                max((after - 1) * step + side - before, 0)
                for before, after, side, step in zip(value.size, size, sides, steps)
            ]
            before = [length // 2 for length in lacking]
            return before + [length - half for length, half in zip(lacking, before)], size
        before, after = zip(*value.padding[2:])
        size = tuple(
            (length + sum(padding) - side) // step + 1
            for length, padding, side, step in zip(value.size, value.padding[2:], sides, steps)
        )
        return [*before, *after], size

    def _add(self, node, inputs, bias=None):
        convolution = self._open(inputs[0])
        if bias is not None:
            assert convolution, f"{node['name']} adds to something other than a convolution"
            convolution.bias = convolution.bias + bias.ravel()
            return convolution
        other = self.value(inputs[1])
        if convolution:
            convolution.addend = other.name
            return convolution
        value = self.value(inputs[0])
        assert (value.order, value.size) == (other.order, other.size), node["name"]
        return replace(value, name=self.graph.op("Add", value.name, other.name))

    _addn = _biasadd = _add

    def _mul(self, node, inputs, factor):
        convolution = self._open(inputs[0])
        assert convolution and not convolution.addend, node["name"]
        convolution.weights = convolution.weights * factor.reshape(-1, 1, 1, 1)
        convolution.bias = convolution.bias * factor
        return convolution

    def _fusedbatchnorm(self, node, inputs, gamma, beta, mean, variance):
        factor = gamma / np.sqrt(variance + np.float32(attribute(node, "epsilon")))
        convolution = self._mul(node, inputs, factor)
        convolution.bias = convolution.bias + beta - mean * factor
        return convolution

    def _relu6(self, node, inputs):
        value, bounds = self.value(inputs[0]), [self.graph.constant([bound]) for bound in (0, 6)]
        return replace(value, name=self.graph.op("Clip", value.name, *bounds))

    def _leakyrelu(self, node, inputs):
        value, alpha = self.value(inputs[0]), attribute(node, "alpha")
        return replace(value, name=self.graph.op("LeakyRelu", value.name, alpha=alpha))

    def _sigmoid(self, node, inputs):
        value = self.value(inputs[0])
        return replace(value, name=self.graph.op("Sigmoid", value.name))

    def _transpose(self, node, inputs, order):
        value = self.value(inputs[0])
        return replace(value, order=tuple(value.order[axis] for axis in order))

    def _pad(self, node, inputs, padding, _filling=None):
        value, pairs = self.value(inputs[0]), dict()
        for axis, pair in zip(value.order, padding):
            pairs[axis] = tuple(int(length) for length in pair)
        return replace(value, padding=tuple(pairs[axis] for axis in range(4)))

    _padv2 = _pad

    def _concatv2(self, node, inputs, axis):
        values = [self.value(input) for input in inputs]
        assert len({(value.order, value.size) for value in values}) == 1, node["name"]
        axis, names = values[0].order[axis], [value.name for value in values]
        return replace(values[0], name=self.graph.op("Concat", *names, axis=axis))

    def _splitv(self, node, inputs, lengths, axis):
        """Its outputs have the names of TensorFlow's: that of the node, and with `:1` and so on."""
        value, count = self.value(inputs[0]), len(lengths)
        names = [f"split_{len(self.graph.nodes)}_{index}" for index in range(count)]
        sections = self.graph.constant(lengths, np.int64)
        self.graph.ops("Split", value.name, sections, outputs=names, axis=value.order[axis])
        parts = [replace(value, name=name) for name in names]
        for index, part in enumerate(parts[1:], 1):
            self.values[f"{node['name']}:{index}"] = part
        return parts[0]

    def _resizebilinear(self, node, inputs, size):
        value = self.value(inputs[0])
        assert value.order == CHANNELS_LAST and attribute(node, "half_pixel_centers"), node["name"]
        factors = [1, 1, *(new / old for new, old in zip(size, value.size))]
        mode = dict(coordinate_transformation_mode="half_pixel", mode="linear")
        output = self.graph.op("Resize", value.name, "", self.graph.constant(factors), **mode)
        return replace(value, name=output, size=tuple(int(length) for length in size))
