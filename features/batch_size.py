"""How many items an encoder takes at once, where nobody says."""

import logging

import torch

from features.encoders.base import Encoder
from features.encoding import is_out_of_memory

log = logging.getLogger(__name__)


def fitting_batch(encoder: Encoder) -> int:
    """The largest batch, of so many halvings, that the memory of the encoder's device takes.

    On a CPU it is the encoder's own number: more items would only wait longer to be full.
    """
    if encoder.device.type == "cpu":
        return encoder.cpu_batch
    n_items = encoder.gpu_batch
    while n_items > 1:
        try:
            encoder.encode(encoder.blank(n_items))
            break
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        n_items //= 2
    log.info("%s: batches of %d on %s", encoder.spec.name, n_items, encoder.device)
    return n_items
