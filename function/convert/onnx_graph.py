"""An ONNX graph under construction. Values are their names."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class OnnxGraph:
    def __init__(self, name):
        self.name = name
        self.nodes, self.constants, self.casts = [], [], []

    def op(self, kind, *inputs, output=None, **attributes):
        """Adds a node with one output, and returns its output."""
        return self.ops(kind, *inputs, outputs=[output or f"{kind.lower()}_{len(self.nodes)}"], **attributes)[0]

    def ops(self, kind, *inputs, outputs, **attributes):
        """Adds a node with several outputs, and returns them."""
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def constant(self, value, kind=np.float32):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, kind), name))
        return name

    def weights(self, value):
        """A constant of 32 bits that is stored as 16, which halves the file and costs no precision that matters."""
        stored = self.constant(value, np.float16)
        self.casts.append(helper.make_node("Cast", [stored], [f"{stored}_f32"], to=TensorProto.FLOAT))
        return f"{stored}_f32"

    def shape(self, *lengths):
        return self.constant(lengths, np.int64)

    def centred(self, image, means):
        """The pixels of an image with the channels last, less the means; the channels are first."""
        value = self.op("Cast", self.op("Transpose", image, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
        return self.op("Sub", value, self.constant(np.reshape(means, (1, 3, 1, 1))))

    def model(self, side, outputs):
        """The whole network, from a picture of `side` pixels to the outputs, which are pairs of name and shape."""
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, side, side, 3])
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
        graph = helper.make_graph(self.casts + self.nodes, self.name, [image], outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model
