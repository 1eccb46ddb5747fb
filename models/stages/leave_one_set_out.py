"""The plan `leave-one-set-out` of `ablate`: what a head is worth on a data set it has not seen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from features.errors import InputError
from models.ablation.table import Predictions, TableRow, corrected_for_all, table_rows
from models.data.data_sets import DataSet, LabelMap, clips_by_set, data_sets
from models.data.splits import label_maps_of
from models.data.train_val import Splits, load_splits, train_val_clips
from models.metrics.scores import rows_of_clips
from models.runs.folder import RunConfig
from models.stages.trials import Trial, TrialResult, predictions, run_trials

LEAVE_ONE_SET_OUT = "leave-one-set-out"
Names = tuple[str, ...]
"""The data sets of a training."""


def leave_one_set_out(
    keys: RunConfig,
    seeds: int,
    workers: int | None,
    on_case: Callable[[str, int], None] | None,
) -> tuple[tuple[TableRow, ...], list[Trial[Names]], list[TrialResult], Splits, str]:
    """Train on all data sets, on all but each one, and on each alone; score on each val split.

    A set's group of rows begins with the training on all sets, with which the others are compared.
    Returns the rows, the trials with their results, the splits, and how epochs were chosen. Raises
    `InputError` if there is only one data set.
    """
    sets = data_sets(keys.manifest, keys.store)
    if len(sets) < 2:
        raise InputError(
            "variants = leave-one-set-out needs several data sets; name them with "
            "manifest=[a.jsonl,b.jsonl] and store=[a.zarr,b.zarr]"
        )
    groups = train_val_clips(keys.manifest, keys.store, keys.streams)
    maps = label_maps_of(groups, keys.train.label_maps)  # over all sets: one scale in all trainings
    keys = keys.model_copy(update={"train": keys.train.model_copy(update={"label_maps": maps})})
    splits = load_splits(keys.manifest, keys.store, keys.streams, keys.max_length_mismatch, maps)
    trials = [
        _trial(keys, maps, [each for each in sets if each.name in names], seed)
        for seed in range(keys.train.seed, keys.train.seed + seeds)
        for names in _trainings([each.name for each in sets])
    ]
    results = run_trials(trials, workers, on_case)
    found = predictions(trials, results)
    rows, names = list[TableRow](), tuple(each.name for each in sets)
    for name, ids in clips_by_set(splits.val.clip_ids).items():
        index, own = rows_of_clips(splits.val, ids), replace(splits, val=splits.val.select(ids))
        variants = [
            Predictions(
                f"on {name}",
                _described(trained_on, name, len(sets)),
                {seed: va[index] for seed, va in by_seed.items()},
            )
            for trained_on, by_seed in found.items()
            if trained_on in (names, (name,), tuple(each for each in names if each != name))
        ]
        rows += table_rows(variants, own)
    selection = f"Epochs are chosen by train.select={keys.train.select}."
    return corrected_for_all(rows), trials, results, splits, selection


def _trainings(names: Sequence[str]) -> Iterator[Names]:
    """Yield all sets, all but each one, and each one alone; each combination once."""
    without = [tuple(name for name in names if name != left_out) for left_out in names]
    yield from dict.fromkeys([tuple(names), *without, *((name,) for name in names)])


def _trial(
    keys: RunConfig, maps: Mapping[str, LabelMap], sets: Sequence[DataSet], seed: int
) -> Trial[Names]:
    names = tuple(each.name for each in sets)
    weights = keys.train.set_weights
    train = keys.train.model_copy(
        update={
            "seed": seed,
            "label_maps": {name: maps[name] for name in names if name in maps},
            "set_weights": {name: weights[name] for name in names if name in weights},
        }
    )
    config = keys.model_copy(
        update={
            "manifest": tuple(each.manifest for each in sets),
            "store": tuple(each.store for each in sets),
            "run": keys.run / "+".join(names) / f"seed-{seed}",
            "train": train,
        }
    )
    name = f"trained on {', '.join(names)}, seed {seed}"
    return Trial(names, name, config, scored_on=(keys.manifest, keys.store))


def _described(trained_on: Names, name: str, n_sets: int) -> str:
    if len(trained_on) == n_sets:
        return "trained on all sets"
    if trained_on == (name,):
        return f"trained on {name} alone"
    return f"trained without {name}"
