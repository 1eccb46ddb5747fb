"""RetinaFace a second time, prior by prior and layer by layer, and weights to try it with."""

import numpy as np
import torch
from torch.nn import functional as F

from features.faces.retinaface_model import RetinaFace

# of each separable convolution of the backbone: stage, block and stride
BLOCKS = (
    [("stage1", block, stride) for block, stride in zip(range(1, 6), (1, 2, 1, 2, 1), strict=True)]
    + [("stage2", block, 2 if block == 0 else 1) for block in range(6)]
    + [("stage3", block, 2 if block == 0 else 1) for block in range(2)]
)


def seeded_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict whose heads find many faces anywhere; batch norms that are not the identity."""
    generator = torch.Generator().manual_seed(seed)
    weights = RetinaFace().state_dict()
    for name, tensor in weights.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(-0.5, 0.5, generator=generator)
        elif tensor.ndim == 4:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
    for name in weights:
        if name.endswith("1.weight") and weights[name].ndim == 1:
            weights[name] += 1
    return weights


def outputs(weights: dict[str, torch.Tensor], image: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """Logits, boxes and landmarks at each stride, (H, W, 2 priors, numbers), of an RGB image."""

    def layer(x, name, stride=1, groups=1, slope=0.1):
        kernel = weights[f"{name}.weight"]
        x = F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, 1, groups)
        stem, _, index = name.rpartition(".")
        norm = f"{stem}.{int(index) + 1}"
        keys = ("running_mean", "running_var", "weight", "bias")
        mean, var, gain, bias = (weights[f"{norm}.{key}"][:, None, None] for key in keys)
        x = (x - mean) / (var + 1e-5).sqrt() * gain + bias
        return torch.where(x > 0, x, slope * x)

    x = torch.from_numpy(image[..., ::-1].astype(np.float32) - np.float32([104, 117, 123]))
    x = layer(x.permute(2, 0, 1)[None], "body.stage1.0.0", 2)
    ends = {}
    for stage, block, stride in BLOCKS:
        x = layer(x, f"body.{stage}.{block}.0", stride, groups=x.shape[1])
        ends[stage] = x = layer(x, f"body.{stage}.{block}.3")

    def twice(x):
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    third = layer(ends["stage3"], "fpn.output3.0")
    second = layer(layer(ends["stage2"], "fpn.output2.0") + twice(third), "fpn.merge2.0")
    first = layer(layer(ends["stage1"], "fpn.output1.0") + twice(second), "fpn.merge1.0")
    found = []
    for k, level in enumerate((first, second, third)):
        ssh = f"ssh{k + 1}"
        wider = layer(level, f"{ssh}.conv5X5_1.0")
        parts = (
            layer(level, f"{ssh}.conv3X3.0", slope=1),
            layer(wider, f"{ssh}.conv5X5_2.0", slope=1),
            layer(layer(wider, f"{ssh}.conv7X7_2.0"), f"{ssh}.conv7x7_3.0", slope=1),
        )
        context = torch.cat(parts, 1).clamp(min=0)
        heads = ("ClassHead", "BboxHead", "LandmarkHead")
        each = [
            F.conv2d(context, weights[f"{h}.{k}.conv1x1.weight"], weights[f"{h}.{k}.conv1x1.bias"])
            for h in heads
        ]
        found.append(tuple(y[0].permute(1, 2, 0).unflatten(-1, (2, -1)).numpy() for y in each))
    return found


def faces(
    weights: dict[str, torch.Tensor], image: np.ndarray, min_score: float, max_overlap: float
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Score, box (left, top, width, height) and landmarks (5, 2) of each face, best first."""
    candidates = []
    for (logits, boxes, points), stride, sides in zip(
        outputs(weights, image), (8, 16, 32), ((16, 32), (64, 128), (256, 512)), strict=True
    ):
        for row, column, prior in np.ndindex(logits.shape[:3]):
            no, yes = np.exp(logits[row, column, prior])
            if yes / (yes + no) < min_score:
                continue
            side, centre = sides[prior], (np.array([column, row]) + 0.5) * stride
            dx, dy, log_w, log_h = boxes[row, column, prior]
            x, y = centre + 0.1 * side * np.array([dx, dy])
            w, h = side * np.exp(0.2 * log_w), side * np.exp(0.2 * log_h)
            landmarks = centre + 0.1 * side * points[row, column, prior].reshape(5, 2)
            box = np.array([x - w / 2, y - h / 2, w, h])
            candidates.append((float(yes / (yes + no)), box, landmarks))
    candidates.sort(key=lambda face: -face[0])
    kept: list[tuple[float, np.ndarray, np.ndarray]] = []
    for face in candidates:
        if all(_overlap(face[1], other[1]) <= max_overlap for other in kept):
            kept.append(face)
    return kept


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    ends = np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = np.clip(ends - np.maximum(one[:2], other[:2]), 0, None).prod()
    return shared / (one[2:].prod() + other[2:].prod() - shared)
