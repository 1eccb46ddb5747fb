"""Whether the region loss reaches the weights that valence and arousal depend on."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.batch import Batch
from models.heads.base import Head


def check_gradient_paths(head: Head, batch: Batch) -> None:
    """Raises `ValueError` unless a region loss has a gradient in a parameter that V and A use.

    Any loss on the region logits will do for that. A head without a region branch passes.
    """
    with torch.random.fork_rng():  # so that a training draws the same numbers without this check
        output = head(batch, head.prototypes())
    if output.regions is None:
        return
    logits = output.regions.logits[output.regions.valid]  # (N, R)
    if not len(logits):
        raise ValueError(
            "the region loss cannot be checked: no row of the batch has a face; "
            "give a batch with at least one row that is valid in the stream with texts"
        )
    va = _gradients(head, output.va.square().sum())  # may be zero at the start: a text prior's are
    regions = _gradients(head, logits.log_softmax(dim=-1)[:, 0].sum())
    shared = any(bool(gradient.any()) for name, gradient in regions.items() if name in va)
    if not shared:
        raise ValueError(
            "the region loss reaches no parameter of the V/A output: the region logits are read "
            "from an embedding that shares no trained weights with V and A, so the loss does not "
            "change them; read the logits from the adapted embedding (head.region_on=adapted), or "
            "leave the loss out (train.loss.region_weight=0)"
        )


def _gradients(head: Head, loss: Float[Tensor, ""]) -> dict[str, Tensor]:
    if not loss.requires_grad:
        return {}
    names, parameters = zip(*head.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {
        name: gradient
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is not None
    }
