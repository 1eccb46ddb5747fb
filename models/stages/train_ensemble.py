"""The stage `train-ensemble`: a head per fold of subjects, and their out-of-fold score."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from features.canonical_json import canonical_sha256
from features.errors import InputError, LaterVersion
from features.manifest.manifest import Manifest, read_manifest
from features.store.location import absolute_path
from features.system.devices import torch_device
from features.system.files import sha256_of
from features.system.parallel import map_in_processes, n_cores
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.data.data_sets import OneManifest
from models.data.feature_sets import open_sets
from models.data.packed import PackedFeatures
from models.data.placement import place_on_device
from models.data.splits import (
    ClipGroups,
    Folds,
    Over,
    clips_over,
    constant_labels,
    deal_folds,
    group_clips,
    subject_by_clip,
)
from models.data.stream_names import Streams
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.metrics.predict import concordance, end_to_end
from models.metrics.scores import split_score
from models.metrics.smoothing import added, choose_windows, smooth, sums_by_window
from models.runs.checkpoint import read_meta
from models.runs.code import code_digest
from models.runs.ensemble_record import (
    EnsembleConfig,
    EnsembleRecord,
    Member,
    read_record,
    write_fold_manifests,
)
from models.runs.finished import WITHOUT_CODE
from models.runs.folder import (
    ENSEMBLE,
    HEAD_FILE,
    RunConfig,
    check_ensemble,
    key_of_0_1,
    link_manifest_root,
    replaces_run_of_0_1,
    run_key,
    start_run,
    write_config,
    write_json,
)
from models.runs.inputs import digest_inputs
from models.runs.predictor import TrainedHead
from models.runs.threads import limit_threads, share_cores
from models.stages.train_head import TrainResult, train_config
from models.training.config import TrainConfig, preset_train
from models.training.loss_config import head_for_streams

FOLD_FILES = re.compile(r"fold-\d+(\.jsonl)?")


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """The result of training an ensemble."""

    state: Literal["trained", "present"]
    """`present` if the folder held this ensemble already and nothing was done."""
    run: Path
    ensemble: EnsembleRecord
    n_kept: int
    """Members that were finished before."""
    notes: tuple[str, ...] = ()
    """Warnings about the labels."""


def train_ensemble(
    *,
    manifest: OneManifest,
    store: str,
    run: Path,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    folds: Folds = 5,
    over: Over = "train+val",
    streams: Streams | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    force: bool = False,
    on_member: Callable[[TrainResult, int], None] | None = None,
) -> EnsembleResult:
    """Train a head per fold of subjects, each on the other folds, and write them to `run`.

    A member is a run of `train-head` in `run/fold-K`, whose val split is its fold. On a CPU members
    are trained at once, each with its share of the cores. Their predictions of their folds give
    the out-of-fold score and choose the windows that the ensemble is smoothed with. Members that
    are finished are kept, unless `force`; `ensemble.json` is written last, and commits the
    ensemble. Raises as `train_head` does, before anything is written.
    """
    given, train = train, preset_train(head, train)
    if train.smooth:
        raise InputError(
            "train.smooth is for single heads, and an ensemble chooses its widths on all folds: "
            "leave it out"
        )
    if train.unlabelled:
        raise InputError(
            "train.unlabelled is not for ensembles, whose folds hold out each person in turn: "
            "leave it out, or train a single head with train-head"
        )
    content, sets = read_manifest(manifest), open_sets(store, streams)
    head = head_for_streams(head, train.loss, tuple(sets.specs), sets.with_texts)
    groups = group_clips(content, sets, deal_folds(clips_over(content, over), folds))
    for name in groups.clips:
        if not groups.is_annotated(name):
            raise InputError(
                f"folds = {folds}: no row of {name} is annotated, its clips are "
                f"{', '.join(groups.ids(name))}; give fewer folds, or labels to these"
            )
    inputs = digest_inputs(groups, head)
    config = EnsembleConfig(
        manifest=manifest.resolve(),
        store=absolute_path(store),
        run=run.resolve(),
        head=head,
        train=train,
        folds=folds,
        over=over,
        streams=dict(sets.names),
        max_length_mismatch=max_length_mismatch,
    )
    notes = constant_labels(groups.labels)
    key = ensemble_key(run_key(config, inputs, code_digest(head)), over)
    without_code = ensemble_key(run_key(config, inputs), over)
    if not force and (record := _read_finished(run, key) or _read_finished(run, without_code)):
        _write_inputs(config, content, groups)  # manifest or store may have moved
        notes += (WITHOUT_CODE,) if record.key == without_code else ()
        return EnsembleResult("present", run, record, len(record.members), notes)
    check_ensemble(run)
    old = key_of_0_1(config, given, inputs)
    if not force and old and _read_finished(run, ensemble_key(old, over)):
        raise InputError(replaces_run_of_0_1(run))
    torch_device(train.device)
    packed = groups.load(max_length_mismatch)  # members read their rows of the same file
    run.mkdir(parents=True, exist_ok=True)
    link_manifest_root(run, content.root)  # first: marks the folder as an ensemble's
    start_run(config, inputs, {})
    for path in run.iterdir():
        if FOLD_FILES.fullmatch(path.name) and path.stem not in groups.clips:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _write_inputs(config, content, groups)
    members: list[TrainResult] = []
    for result in _train_members(config, list(groups.clips), force):
        members.append(result)
        if on_member:
            on_member(result, folds)
    with limit_threads(train.threads):
        record = _score_out_of_fold(config, groups, packed, key)
    write_json(run / ENSEMBLE, record.model_dump(mode="json"))  # commits the ensemble
    n_kept = sum(member.state == "present" for member in members)
    return EnsembleResult("trained", run, record, n_kept, notes)


def ensemble_key(members: str, over: Over) -> str:
    """Return the key of an ensemble from the key of its members' config and inputs."""
    return canonical_sha256({"members": members, "over": over})


def _read_finished(run: Path, key: str) -> EnsembleRecord | None:
    try:
        record = read_record(run)
    except LaterVersion:
        raise  # not to be replaced
    except InputError:
        return None  # missing, unfinished or damaged
    return record if record.key == key else None


def _write_inputs(config: EnsembleConfig, manifest: Manifest, folds: ClipGroups) -> None:
    link_manifest_root(config.run, manifest.root)
    write_fold_manifests(config.run, manifest, folds.clips)
    write_config(config)


def _train_members(
    config: EnsembleConfig, names: Sequence[str], force: bool
) -> Iterator[TrainResult]:
    """Train the members in order: at once on a CPU, one by one on a GPU, which has room for one."""
    at_once = torch_device(config.train.device).type == "cpu" and n_cores() > 1
    train = share_cores(config.train, min(len(names), n_cores())) if at_once else config.train
    fields = {name: value for name, value in config if name in RunConfig.model_fields}
    jobs = [
        RunConfig(
            **fields
            | {"manifest": config.run / f"{name}.jsonl", "run": config.run / name, "train": train}
        )
        for name in names
    ]
    train_member = partial(train_config, force=force)
    return map_in_processes(train_member, jobs) if at_once else map(train_member, jobs)


def _score_out_of_fold(
    config: EnsembleConfig, folds: ClipGroups, packed: PackedFeatures, key: str
) -> EnsembleRecord:
    packed = place_on_device(packed, torch_device(config.train.device), config.train.bank_mib)
    parts = [packed.select(folds.ids(name)) for name in folds.clips]
    predictions, members = [], []
    for name, part in zip(folds.clips, parts, strict=True):
        head = config.run / name / HEAD_FILE
        prediction = TrainedHead(head.parent, read_meta(head), config).predict(part)
        predictions.append(prediction)
        members.append(
            Member(
                folder=name,
                head_sha256=sha256_of(head),
                held_out=part.clip_ids,
                ccc_mean=concordance(prediction, part).ccc()[2],
            )
        )
    sums = [sums_by_window(*each) for each in zip(predictions, parts, strict=True)]
    smoothed = [
        smooth(prediction, part, choose_windows(added(sums[:k] + sums[k + 1 :])))
        for k, (prediction, part) in enumerate(zip(predictions, parts, strict=True))
    ]
    subjects = subject_by_clip(folds.all_clips)
    scores = [split_score(end_to_end(each), packed, subjects) for each in (predictions, smoothed)]
    assert scores[0] is not None  # every fold has an annotated row
    assert scores[1] is not None
    return EnsembleRecord(
        key=key,
        over=config.over,
        members=tuple(members),
        widths_s=choose_windows(added(sums)),
        out_of_fold=scores[0],
        out_of_fold_smoothed=scores[1],
    )
