"""Whether the region loss can change what V and A are read from."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.batch import Batch
from models.heads.base import Head


def check_gradient_paths(head: Head, batch: Batch) -> None:
    """Raise `ValueError` unless the region loss moves a parameter that V and A depend on.

    Any loss on the region logits does, for the question is where its gradient arrives. A head
    without a region branch passes.
    """
    with torch.random.fork_rng():  # a training with the loss shall draw as one without it does
        output = head(batch, head.prototypes())
    if output.regions is None:
        return
    logits = output.regions.logits[output.regions.valid]  # (N, R)
    if not len(logits):
        raise ValueError(
            "the region loss cannot be checked: no row of the batch has a face; "
            "give a batch with at least one valid visual row"
        )
    shared = _reached(head, logits.log_softmax(dim=-1)[:, 0].sum()) & _reached(
        head, output.va.square().sum()
    )
    if not shared:
        raise ValueError(
            "the region loss reaches no parameter of the V/A output: the region logits are read "
            "from an embedding that no trained part of V and A shares, so the loss changes V and A "
            "by nothing; read them from the adapted embedding (region_on=adapted), or leave the "
            "loss out (region_weight=0)"
        )


def _reached(head: Head, loss: Float[Tensor, ""]) -> set[str]:
    """Names of the parameters at which a gradient of the loss arrives that is not zero."""
    if not loss.requires_grad:
        return set()
    names, parameters = zip(*head.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {
        name
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is not None and bool(gradient.any())
    }
