"""The tree of random streams: every random number of this package comes from a named branch.

A rendered set draws from `RENDERED_BRANCH`, the training of the small encoders from
`ENCODER_BRANCH`, so that the two share no subject and no trajectory
(`test_encoder_training.py::test_no_rendered_set_can_draw_from_the_encoders_branch`).
"""

import numpy as np

from features.errors import InputError

RENDERED_BRANCH = 0  # first spawn key of every rendered set
ENCODER_BRANCH = 1  # first spawn key of everything the small encoders see
SEED_LIMIT = 2**63  # below it a seed never reaches the spawn key's own words of entropy


def check_seed(seed: int) -> None:
    """Return if the seed can be used; else raise `InputError`."""
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"seed is {seed}; it must be at least 0 and below 2**63: give another")


def stream(seed: int, branch: int, *key: int) -> np.random.Generator:
    """The generator of one leaf: the same for the same address, independent of all others."""
    check_seed(seed)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(branch, *key)))
