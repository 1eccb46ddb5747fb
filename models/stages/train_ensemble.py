"""The stage `train-ensemble`: heads trained on folds of people, and how sure they are together."""

import hashlib
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from features.canonical_json import canonical
from features.clip import Clip
from features.errors import InputError, LaterVersion
from features.manifest.labels import Labels
from features.manifest.manifest import Manifest, read_manifest
from features.store.feature_store import absolute_path
from features.system.devices import torch_device
from features.system.files import sha256_of
from features.system.parallel import map_in_processes, n_cores
from features.system.provenance import provenance
from features.timeline import MAX_ROWS_APART, RowsApart
from models.data.feature_sets import FeatureSets, open_sets
from models.data.folds import Folds, Over, clips_over, deal_folds
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.placement import place_on_device
from models.data.splits import constant_labels, read_all_labels, subject_by_clip
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.metrics.predict import Prediction, concordance, end_to_end
from models.metrics.scores import split_score
from models.metrics.smoothing import added, choose_windows, smooth, sums_by_window
from models.runs.checkpoint import FILE, read_meta
from models.runs.ensemble_record import (
    EnsembleConfig,
    EnsembleRecord,
    Member,
    read_record,
    write_fold_manifests,
    write_record,
)
from models.runs.folder import (
    PROVENANCE,
    Inputs,
    RunConfig,
    check_ensemble,
    delete_outputs,
    link_manifest_root,
    run_key,
    write_config,
    write_json,
)
from models.runs.predictor import TrainedHead
from models.stages.train_head import TrainResult, inputs_of, train_head
from models.training.config import TrainConfig
from models.training.loss_config import check_loss

FOLD_FILES = re.compile(r"fold-\d+(\.jsonl)?")


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """How the training of an ensemble ended."""

    state: Literal["trained", "present"]
    """`present`: the folder held this very ensemble already, nothing was done."""
    run: Path
    ensemble: EnsembleRecord
    n_kept: int
    """Members that were there already."""
    notes: tuple[str, ...] = ()
    """What is odd about the labels."""


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a training reads, before it is read in full."""

    manifest: Manifest
    sets: FeatureSets
    dealt: dict[str, tuple[Clip, ...]]
    """By fold."""
    labels: dict[str, Labels | None]
    """Of every clip, fold after fold."""
    inputs: Inputs


def train_ensemble(
    *,
    manifest: Path,
    store: str,
    run: Path,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    folds: Folds = 5,
    over: Over = "train+val",
    visual: str | None = None,
    audio: str | None = None,
    max_rows_apart: RowsApart = MAX_ROWS_APART,
    force: bool = False,
    on_member: Callable[[TrainResult, int], None] | None = None,
) -> EnsembleResult:
    """Train a head per fold of people, each on the other folds, and leave them in the folder `run`.

    A member is a run of `train-head` in `run/fold-K`, its val split the fold that it was not
    trained on; members are trained at once where there are cores. What they say of those folds
    gives the out-of-fold score, and chooses the widths that the ensemble is smoothed by. Members
    that are there are kept, unless `force`; `ensemble.json` comes last and is the commit. Raises
    as `train_head` does, before anything is written where the inputs do not fit.
    """
    check_loss(head, train.loss)
    sources = _look_up(read_manifest(manifest), head, store, visual, audio, folds, over)
    config = EnsembleConfig(
        manifest=manifest.resolve(),
        store=absolute_path(store),
        run=run.resolve(),
        head=head,
        train=train,
        folds=folds,
        over=over,
        visual=sources.sets.visual.name,
        audio=sources.sets.audio.name,
        max_rows_apart=max_rows_apart,
    )
    notes = constant_labels(sources.labels)
    key = _key(config, sources.inputs)
    if not force and (record := _present(run, key)):
        _write_inputs(config, sources)  # manifest or store may have moved
        return EnsembleResult("present", run, record, len(record.members), notes)
    check_ensemble(run)
    torch_device(train.device)
    _write_beginning(config, sources)
    members: list[TrainResult] = []
    for result in _trained(config, sources.dealt, force):
        members.append(result)
        if on_member:
            on_member(result, folds)
    record = _record(config, sources, key)
    write_record(run, record)
    n_kept = sum(member.state == "present" for member in members)
    return EnsembleResult("trained", run, record, n_kept, notes)


def _look_up(
    manifest: Manifest,
    head: AnyHeadConfig,
    store: str,
    visual: str | None,
    audio: str | None,
    folds: int,
    over: Over,
) -> _Sources:
    """Sets, folds, labels and digests; no features are read."""
    sets = open_sets(store, visual, audio)
    dealt = deal_folds(clips_over(manifest, over), folds)
    clips = [clip for fold in dealt.values() for clip in fold]
    labels = read_all_labels(manifest, clips, required=True)
    for name, fold in dealt.items():
        if not any(item is not None and item.valid.any() for item in _of(labels, fold).values()):
            raise InputError(
                f"folds = {folds}: no row of {name} is annotated, its clips are "
                f"{', '.join(clip.id for clip in fold)}; give fewer folds, or labels to these"
            )
    return _Sources(manifest, sets, dealt, labels, inputs_of(sets, dealt, labels, head))


def _of(labels: Mapping[str, Labels | None], clips: tuple[Clip, ...]) -> dict[str, Labels | None]:
    return {clip.id: labels[clip.id] for clip in clips}


def _key(config: EnsembleConfig, inputs: Inputs) -> str:
    """sha256 of everything that decides the members and the widths."""
    decisive = {"members": run_key(config, inputs), "over": config.over}
    return hashlib.sha256(canonical(dict(decisive))).hexdigest()


def _present(run: Path, key: str) -> EnsembleRecord | None:
    """The finished ensemble with this key; None where there is no such one."""
    try:
        record = read_record(run)
    except LaterVersion:
        raise  # not ours to replace
    except InputError:
        return None  # none, half of one, or damaged
    return record if record.key == key else None


def _write_beginning(config: EnsembleConfig, sources: _Sources) -> None:
    """Make the folder ready for the members; what an older ensemble has left over goes."""
    run = config.run
    run.mkdir(parents=True, exist_ok=True)
    link_manifest_root(run, sources.manifest.root)  # first: it marks the folder as an ensemble's
    delete_outputs(run)
    for path in run.iterdir():
        if FOLD_FILES.fullmatch(path.name) and path.stem not in sources.dealt:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    made_by = {
        "inputs": sources.inputs.model_dump(mode="json"),
        "seed": config.train.seed,
        "device": str(torch_device(config.train.device)),
        "started_as": shlex.join(sys.orig_argv),
    }
    write_json(run / PROVENANCE, provenance() | made_by)
    _write_inputs(config, sources)


def _write_inputs(config: EnsembleConfig, sources: _Sources) -> None:
    """The config and the members' manifests, where they are other than those that are there."""
    link_manifest_root(config.run, sources.manifest.root)
    write_fold_manifests(config.run, sources.manifest, sources.dealt)
    write_config(config)


def _trained(config: EnsembleConfig, names: Iterable[str], force: bool) -> Iterator[TrainResult]:
    """The members one by one, in order; trained at once, but on a GPU, which has room for one."""
    shared = {name: getattr(config, name) for name in RunConfig.model_fields}
    keys = [
        {
            **shared,
            "manifest": config.run / f"{name}.jsonl",
            "run": config.run / name,
            "force": force,
        }
        for name in names
    ]
    at_once = torch_device(config.train.device).type == "cpu" and n_cores() > 1
    return map_in_processes(_train, keys) if at_once else map(_train, keys)


def _train(keys: dict[str, Any]) -> TrainResult:
    """`train_head`, as a process takes it."""
    return train_head(**keys)


def _record(config: EnsembleConfig, sources: _Sources, key: str) -> EnsembleRecord:
    """What the members say of the folds that they were not trained on, end to end."""
    bank = load_packed(sources.sets, sources.labels, config.max_rows_apart)
    bank = place_on_device(bank, torch_device(config.train.device), config.train.bank_mib)
    parts: list[PackedFeatures] = []
    predictions: list[Prediction] = []
    members: list[Member] = []
    for name, clips in sources.dealt.items():
        ids = tuple(clip.id for clip in clips)
        path = config.run / name
        parts.append(bank.part(ids))
        predictions.append(TrainedHead(path, read_meta(path / FILE), config).predict(parts[-1]))
        sums = concordance(predictions[-1], parts[-1])
        members.append(
            Member(
                folder=name,
                head_sha256=sha256_of(path / FILE),
                held_out=ids,
                ccc_mean=(sums.valence.ccc() + sums.arousal.ccc()) / 2,
            )
        )
    sums = [sums_by_window(*each) for each in zip(predictions, parts, strict=True)]
    by_others = [
        smooth(prediction, part, choose_windows(added(sums[:k] + sums[k + 1 :])))
        for k, (prediction, part) in enumerate(zip(predictions, parts, strict=True))
    ]
    subject_of = subject_by_clip([clip for clips in sources.dealt.values() for clip in clips])
    plain, smoothed = (
        split_score(end_to_end(each), bank, subject_of) for each in (predictions, by_others)
    )
    assert plain is not None  # every fold has an annotated row
    assert smoothed is not None
    return EnsembleRecord(
        key=key,
        over=config.over,
        members=tuple(members),
        widths_s=choose_windows(added(sums)),
        out_of_fold=plain,
        out_of_fold_smoothed=smoothed,
    )
