"""Checks that the region loss has a gradient in parameters of V and A."""

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
            "give a batch with at least one valid visual row"
        )
    shared = _with_gradient(head, logits.log_softmax(dim=-1)[:, 0].sum()) & _with_gradient(
        head, output.va.square().sum()
    )
    if not shared:
        raise ValueError(
            "the region loss reaches no parameter of the V/A output: the region logits are read "
            "from an embedding that shares no trained weights with V and A, so the loss does not "
            "change them; read the logits from the adapted embedding (head.region_on=adapted), or "
            "leave the loss out (train.loss.region_weight=0)"
        )


def _with_gradient(head: Head, loss: Float[Tensor, ""]) -> set[str]:
    if not loss.requires_grad:
        return set()
    names, parameters = zip(*head.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {
        name
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is not None and bool(gradient.any())
    }
