"""The stage `sweep`: trials of a head that are drawn from a space, and the best of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field

from features.canonical_json import JsonObject, canonical_sha256
from features.errors import InputError
from features.system.files import write_atomic
from features.system.locks import try_lock
from features.system.parallel import n_cores, process_pool
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.ablation.plan import DEFAULT, changed_model
from models.data.data_sets import Manifests, Stores, absolute_manifests
from models.data.feature_sets import MODALITIES
from models.data.joined_store import absolute_stores
from models.data.stream_names import Streams
from models.data.train_val import load_splits, train_val_clips
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.runs.code import code_digest
from models.runs.folder import RunConfig, run_key
from models.runs.inputs import digest_inputs
from models.stages.points import Model, Point, PointComparison, PointRunner, compared
from models.stages.trials import Workers, check_trials_folder
from models.sweeps.drawn import DrawnTrial
from models.sweeps.space import Space, read_space, variant_of
from models.training.config import TrainConfig, preset_train

Trials = Annotated[int, Field(ge=1)]
TrialSeeds = Annotated[int, Field(ge=1, le=100)]

BEST = "best.yaml"
LOCK = "sweep.lock"


class Sweep(PointComparison):
    """The result of a sweep; its best trial is in `best.yaml` of its folder."""

    stage = "sweep"
    file = "sweep"
    reference = "default"
    is_in_order = True


def sweep(
    *,
    manifest: Manifests,
    store: Stores,
    run: Path,
    space: str = "default",
    trials: Trials = 20,
    seeds: TrialSeeds = 1,
    generation: Trials = 4,
    prune_after: Trials | None = 3,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    streams: Streams | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    workers: Workers | None = None,
    on_case: Callable[[str, int], None] | None = None,
) -> Sweep:
    """Train heads with settings that are drawn from a space, and compare them with the default.

    `space` is the name of a space in configs/sweeps, or a YAML file. The default is `head`, trained
    as `train` says. A trial is trained from `seeds` seeds, which count up from `train.seed`, in
    `<run>/trial-<n>/seed-<k>`; its score is the mean over them. Trials are drawn by Optuna in
    generations (`SweepStudy`): the order in which they end decides nothing, so that a sweep that
    was killed goes on to the result of one that was not. Once it has trained `prune_after` epochs,
    a trial whose first seed is below the median of earlier generations is pruned; null prunes none.
    Trainings run at once and are kept as in `ablate`. Writes the table to `sweep.csv`, `.md` and
    `.html`, and the keys of the best trial to `best.yaml`. Raises as `train_head` does, and
    `InputError` if a value of the space is not valid, or the folder holds another sweep.
    """
    values = read_space(space)
    keys = RunConfig(
        manifest=absolute_manifests(manifest),
        store=absolute_stores(store),
        run=run,
        head=head,
        train=train,
        streams=streams,
        max_length_mismatch=max_length_mismatch,
    )
    check_trials_folder(run, "a sweep")
    splits = load_splits(manifest, store, streams, max_length_mismatch, train.label_maps)
    sets = splits.sets
    model = partial(
        model_of, head=head, train=train, streams=tuple(sets.specs), with_texts=sets.with_texts
    )
    default = Point(DEFAULT, DEFAULT, {}, model({}))
    is_inner = model({})[1].select == "inner"
    _check(space, values, model)
    how = [values.as_json(), seeds, generation, prune_after]
    key = canonical_sha256({"how": how, "default": _default_key(keys, *model({}))})
    n_at_once = min(workers or n_cores(), generation * max(1, seeds - 1))
    points = [default]
    with _locked(run), process_pool(n_at_once) as pool:
        from models.sweeps.study import SweepStudy  # imports optuna, which is slow

        study = SweepStudy(run, values, train.seed, generation, key)
        runner = PointRunner(
            keys, seeds, True, n_at_once, pool, n_trainings=(trials + 1) * seeds, on_trial=on_case
        )
        for first in range(0, trials, generation):
            drawn = study.draw(range(first, min(first + generation, trials)))
            floors = _floors(study.floors(first), prune_after)
            new = [_point(each, floors, model) for each in drawn]
            runner.run(new if first else [default, *new])
            for trial, point in zip(drawn, new, strict=True):
                if not trial.has_ended and point.state != "failed":
                    score = point.score(is_inner=is_inner) if point.state == "complete" else None
                    study.end(trial.number, point.curve, score)
            points += new
    result = compared(Sweep, "Sweep", run, points, splits)
    _write_best(keys, result, points)
    return result


def model_of(
    params: JsonObject,
    head: AnyHeadConfig,
    train: TrainConfig,
    streams: Sequence[str] = MODALITIES,
    with_texts: Sequence[str] = MODALITIES[:1],
) -> Model:
    """Return the head and its training with these values; `InputError` if they are not valid.

    The head reads `streams`, as in `ablation_cases`.
    """
    base = preset_train(head, train)
    changed_head, changed_train = changed_model(
        variant_of(params), head, train, streams, with_texts
    )
    if (changed_train.select == "inner") != (base.select == "inner"):
        raise InputError(
            f"train.select is {changed_train.select} with {params}, and {base.select} in the "
            "default; all trials are compared on val, or all on people that are held out: leave "
            "that value out"
        )
    return changed_head, changed_train


def _check(name: str, space: Space, model: Callable[[JsonObject], Model]) -> None:
    """Raise `InputError` for a value that no head takes, before anything is trained."""
    try:
        variant_of({key: each.ends()[0] for key, each in space.values.items()})
        for key, each in space.values.items():
            for value in each.ends():
                model({key: value})
    except InputError as error:
        raise InputError(f"space {name!r}: {error}") from None


def _default_key(keys: RunConfig, head: AnyHeadConfig, train: TrainConfig) -> str:
    """Return the digest of the default's settings, inputs and code, which all trials share."""
    clips = train_val_clips(keys.manifest, keys.store, keys.streams)
    config = keys.model_copy(update={"head": head, "train": train})
    return run_key(config, digest_inputs(clips, head), code_digest(head))


def _floors(medians: tuple[float | None, ...], after: int | None) -> tuple[float | None, ...]:
    """The medians, but None for the epochs after which no trial is pruned."""
    if after is None:
        return ()
    return tuple(each if k >= after else None for k, each in enumerate(medians, 1))


def _point(
    trial: DrawnTrial,
    floors: tuple[float | None, ...],
    model: Callable[[JsonObject], Model],
) -> Point:
    """Return a trial as it is to be trained: not at all if it was pruned before."""
    point = Point(f"trial {trial.number}", f"trial-{trial.number:03d}", trial.params)
    if trial.is_pruned:
        point.curve = trial.curve
        return point
    if not trial.has_ended:
        point.floors = floors
    try:
        point.model = model(trial.params)
    except InputError as error:  # valid key by key, but not together
        point.failure = str(error)
    return point


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Hold the folder of a sweep; raises `InputError` if another process does."""
    if not (lock := try_lock(run / LOCK)):
        raise InputError(
            f"a sweep in run = {run} is running; wait until it has ended, or give another folder"
        )
    try:
        yield
    finally:
        lock.release()


def _write_best(keys: RunConfig, result: Sweep, points: list[Point]) -> None:
    """Write the keys of the best point, without a folder; removes those of another result."""
    best, path = result.rows[0], result.run / BEST
    if best.state != "complete":
        path.unlink(missing_ok=True)
        return
    model = next(point.model for point in points if point.name == best.name)
    assert model is not None  # it was trained
    head, train = model
    config = keys.model_copy(update={"head": head, "train": train})
    text = yaml.safe_dump(config.model_dump(mode="json", exclude={"run"}), sort_keys=False)
    written = f"# {best.name} of a sweep: `vaflow run train-head -c FILE run=FOLDER`\n{text}"
    write_atomic(path, written.encode())
