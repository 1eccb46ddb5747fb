"""The random streams of the synthetic data: every random number comes from a named branch.

A rendered set draws from `RENDERED_BRANCH`, the training of the small encoders from
`ENCODER_BRANCH`, so that the two share no subject and no trajectory
(`test_encoder_training.py::test_no_rendered_set_can_draw_from_the_encoders_branch`).
"""

import numpy as np

from features.errors import InputError

RENDERED_BRANCH = 0  # first spawn key of every rendered set
ENCODER_BRANCH = 1  # first spawn key of the training data of the small encoders
SEED_LIMIT = 2**63  # a smaller seed cannot collide with the words of a spawn key


def stream(seed: int, branch: int, *key: int) -> np.random.Generator:
    """The generator of a branch and key, independent of all others.

    Raises `InputError` if the seed is out of range.
    """
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"seed is {seed}; it must be at least 0 and below 2**63")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(branch, *key)))
