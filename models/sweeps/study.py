"""The trials of a sweep: drawn by Optuna, and kept in its journal beside the runs.

Optuna takes a second to import, so a stage imports this module where it draws.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from features.errors import InputError
from features.system.files import write_atomic
from models.sweeps.drawn import DrawnTrial
from models.sweeps.space import Choices, Space, Values

JOURNAL = "journal.log"
NAME = "sweep"
"""Of the study in the journal."""
KEY = "key"
"""Its attribute with everything that determines the trials."""
LEAST_TO_PRUNE = 4
"""Trials that have ended, of which a median says something."""

log = logging.getLogger(__name__)


class SweepStudy:
    """The trials of a sweep in generations of a fixed size.

    A trial is drawn by the tree-structured Parzen estimator (TPE; Bergstra et al., 2011) with a
    seed of its own, from the results of earlier generations and the settings of the trials before
    it in its own. Nor do results of its own generation decide whether it is pruned. The order in
    which trials end therefore decides nothing, and neither does a kill: the journal has each trial
    since it was drawn, and one that has not ended is run again with the same settings.
    """

    def __init__(self, folder: Path, space: Space, seed: int, generation: int, key: str) -> None:
        """Open the journal in the folder, or begin it; `key` is of what determines the trials.

        Raises `InputError` if the journal is of another sweep or cannot be read.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._seed, self._generation, path = seed, generation, folder / JOURNAL
        self._distributions = {name: _distribution(each) for name, each in space.values.items()}
        _repair(path)
        try:
            self._storage = JournalStorage(JournalFileBackend(str(path)))
            self._study = optuna.create_study(
                storage=self._storage, study_name=NAME, direction="maximize", load_if_exists=True
            )
            found = self._study.user_attrs.get(KEY)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise InputError(
                f"{path} is not the journal of a sweep ({error}); give another folder"
            ) from None
        if found not in (None, key):
            raise InputError(
                f"{path} is of a sweep with another space, other settings or inputs, or of other "
                "code, whose trials cannot be compared with new ones; give another folder (only "
                "`trials` and `workers` may change)"
            )
        if found is None:
            self._study.set_user_attr(KEY, key)

    def trials(self) -> list[DrawnTrial]:
        """Return all trials of the journal, by number."""
        return [_read(each) for each in self._study.get_trials(deepcopy=False)]

    def draw(self, numbers: Iterable[int]) -> list[DrawnTrial]:
        """Return the trials with these numbers of one generation; those that are new are drawn."""
        for number in numbers:
            if number >= len(self._study.get_trials(deepcopy=False)):
                self._study.add_trial(self._draw(number))
        known = self.trials()
        return [known[number] for number in numbers]

    def floors(self, number: int) -> tuple[float | None, ...]:
        """Return the score after each epoch below which a trial is pruned; None: it goes on.

        As in Optuna's median pruner, that is the median of the trials that have ended without being
        pruned; only those of earlier generations count. They come before any result of the trial's
        own generation, so they are constants that its processes can be given.
        """
        curves = [
            each.curve for each in self.trials()[: self._first(number)] if each.score is not None
        ]
        longest = max(map(len, curves), default=0)
        known = [[curve[k] for curve in curves if k < len(curve)] for k in range(longest)]
        return tuple(median(each) if len(each) >= LEAST_TO_PRUNE else None for each in known)

    def end(self, number: int, curve: Sequence[float], score: float | None) -> None:
        """Write the result of a trial that has not ended; `score` is None if it was pruned."""
        study_id = self._storage.get_study_id_from_name(NAME)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        for step, value in enumerate(curve):
            self._storage.set_trial_intermediate_value(trial_id, step, value)
        if score is None:
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, score)

    def _first(self, number: int) -> int:
        """The number of the first trial of its generation."""
        return number - number % self._generation

    def _draw(self, number: int) -> FrozenTrial:
        seed = np.random.SeedSequence((self._seed, number)).generate_state(1)[0]
        study = optuna.create_study(  # in memory, of what the trial may depend on
            direction="maximize", sampler=TPESampler(seed=int(seed))
        )
        before, first = self._study.get_trials(deepcopy=False)[:number], self._first(number)
        study.add_trials(before[:first])
        study.add_trials(self._running(each.params) for each in before[first:])
        return self._running(study.ask(self._distributions).params)

    def _running(self, params: dict[str, Any]) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING, params=params, distributions=self._distributions
        )


def _read(trial: FrozenTrial) -> DrawnTrial:
    return DrawnTrial(
        trial.number,
        {
            key: json.loads(value) if isinstance(value, str) else value
            for key, value in trial.params.items()
        },
        trial.state == TrialState.PRUNED,
        trial.value if trial.state == TrialState.COMPLETE else None,
        tuple(value for _, value in sorted(trial.intermediate_values.items())),
    )


def _distribution(values: Values) -> BaseDistribution:
    """The same for Optuna, whose choices are texts: those here are JSON, so as to be any value."""
    if isinstance(values, Choices):
        return CategoricalDistribution([json.dumps(each) for each in values.choices])
    if values.is_whole:
        return IntDistribution(
            int(values.low), int(values.high), log=values.log, step=int(values.step or 1)
        )
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _repair(path: Path) -> None:
    """Remove what a kill left: half a line at the end of the journal, and Optuna's lock on it.

    The caller holds the lock of the folder, so nobody else writes to the journal.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        log.warning("%s ends within a line, which is left out", path)
        write_atomic(path, content[: content.rfind(b"\n") + 1])
