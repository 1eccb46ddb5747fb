"""Converts the weights of YuNet from its ONNX file to safetensors; run once, kept as the record.

pip install onnx
python -m features.faces.convert_yunet face_detection_yunet_2023mar.onnx
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from features.errors import InputError
from features.faces.yunet_model import YuNet
from features.system.files import sha256_of

ONNX_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
WEIGHTS = Path(__file__).parent / "weights" / "yunet-2023mar.safetensors"
FIRST_CONVOLUTION = "backbone.model0.conv1"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in the ONNX file, by their names in `YuNet`.

    Folding the batch norms gave the convolutions by channel numbers for names; each follows its
    1x1 convolution, which kept its name. Raises `InputError` if it is another file.
    """
    import onnx  # pyright: ignore[reportMissingImports]
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    if sha256_of(path) != ONNX_SHA256:
        raise InputError(f"{path} is not the file whose sha256 is {ONNX_SHA256}")
    graph = onnx.load(path).graph
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    weights: dict[str, Tensor] = {}
    last = ""
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        _, weight, bias = node.input
        if weight.endswith(".weight"):
            last = weight.removesuffix(".weight")
        else:
            last = f"{last.removesuffix('.conv1')}.conv2" if last else FIRST_CONVOLUTION
        weights[f"{last}.weight"] = torch.from_numpy(arrays[weight].copy())
        weights[f"{last}.bias"] = torch.from_numpy(arrays[bias].copy())
    return weights


def main() -> None:
    """Write the weights; they are loaded into the network first, which checks every shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("onnx", type=Path)
    weights = read_weights(parser.parse_args().onnx)
    YuNet().load_state_dict(weights)
    save_file(weights, WEIGHTS)


if __name__ == "__main__":
    main()
