"""The stage `train-head`: a head trained on the features in a store."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from features.errors import InputError
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.data.data_sets import Manifests, Stores, absolute_manifests
from models.data.joined_store import absolute_stores
from models.data.splits import ClipGroups, constant_labels
from models.data.stream_names import Streams
from models.data.train_val import TRAIN_VAL, train_val_clips
from models.data.unlabelled import unlabelled_clips
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.regions.nearest_words import prompt_words
from models.regions.texts_file import grid_of
from models.runs.checkpoint import CheckpointMeta, StreamMeta, save_head
from models.runs.code import code_digest
from models.runs.finished import WITHOUT_CODE, read_finished, reason_to_train
from models.runs.folder import (
    HEAD_FILE,
    LAST,
    PROMPTS,
    TRAINING,
    Inputs,
    RunConfig,
    check_run,
    key_of_0_1,
    replaces_run_of_0_1,
    run_key,
    start_run,
    write_config,
    write_json,
    write_metrics,
)
from models.runs.inputs import digest_inputs
from models.runs.trackers import TENSORBOARD, check_installed
from models.stages.fit_head import FittedHead, fit_head
from models.stages.text_prior import texts_alone
from models.training.config import EpochResult, TrainConfig, kept_epoch, preset_train
from models.training.data_sets import on_one_scale
from models.training.last_state import SavedState
from models.training.loss_config import head_for_streams
from models.training.pace import TrainingStep


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a training."""

    state: Literal["trained", "present"]
    """`present` if the folder held this head already and nothing was done."""
    run: Path
    epochs: tuple[EpochResult, ...]
    kept: EpochResult
    """The epoch whose weights were kept."""
    notes: tuple[str, ...] = ()
    """Warnings about the labels and the memory."""
    reason: str = ""
    """What differs from the head that was replaced; empty if there was none."""


def train_head(
    *,
    manifest: Manifests,
    store: Stores,
    run: Path,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    streams: Streams | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    force: bool = False,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_training_step: Callable[[TrainingStep], None] | None = None,
    on_next_epoch: Callable[[Sequence[EpochResult]], None] | None = None,
) -> TrainResult:
    """Train a head on the features in a store, and write it to the folder `run`.

    No video is read, and the only encoder that runs is CLIP's text encoder. `streams` names the
    feature sets; without it the head reads all sets of the store. A preset's own keys of
    `train` hold unless they are given (`preset_train`). A run with the same config, inputs and code
    is kept, unless `force`; another one is replaced. If it is interrupted, the `KeyboardInterrupt`
    says what is saved. Label rows and frames of a clip may differ by
    `max_length_mismatch`. Raises `InputError`, `StoreError` or a subclass if the
    inputs do not fit together, before anything is written.
    """
    given, train = train, preset_train(head, train)
    check_installed(train.log_to)
    clips, train = on_one_scale(train_val_clips(manifest, store, streams), train)
    sets = clips.sets
    head = head_for_streams(head, train.loss, tuple(sets.specs), sets.with_texts)
    for split in TRAIN_VAL:
        clips.check_annotated(split)
    held_out, notes = (), constant_labels(clips.labels) + sets.notes
    if train.select == "inner":
        held_out = clips.hold_out("train", train.inner_share, train.seed)
    unlabelled = None
    if train.unlabelled:
        if not isinstance(manifest, Path):
            raise InputError(
                "train.unlabelled is for one data set, and manifest names several; train on one, "
                "or without unlabelled clips"
            )
        path = train.unlabelled.resolve()
        train = train.model_copy(update={"unlabelled": path})
        unlabelled, left_out = unlabelled_clips(
            sets, manifest, path, transductive=train.transductive, inner=held_out
        )
        notes += left_out
    inputs, grid = digest_inputs(clips, head, unlabelled), grid_of(head.prompts)
    config = RunConfig(
        manifest=absolute_manifests(manifest),
        store=absolute_stores(store),
        run=run.resolve(),
        head=head,
        train=train,
        streams=dict(sets.names),
        max_length_mismatch=max_length_mismatch,
    )
    code = code_digest(head)
    for used, note in ((code, ()), (None, (WITHOUT_CODE,))):
        if not force and (epochs := read_finished(run, run_key(config, inputs, used))):
            write_config(config)  # manifest or store may have moved
            return TrainResult("present", run, epochs, kept_epoch(epochs, train), notes + note)
    check_run(run)
    reason, key = reason_to_train(config, inputs), run_key(config, inputs, code)
    saved = SavedState(run / TRAINING / LAST, key, is_new=force)
    if not force and (old := key_of_0_1(config, given, inputs)) and read_finished(run, old):
        raise InputError(replaces_run_of_0_1(run))
    with saved.explained():
        fitted = fit_head(
            config,
            clips,
            held_out,
            unlabelled,
            saved,
            on_epoch,
            on_training_step,
            on_next_epoch,
        )
        meta = CheckpointMeta(
            head=head,
            loss=train.loss,
            streams={
                name: StreamMeta(
                    feature_set=sets.specs[name].name,
                    modality=stream.modality,
                    width=stream.values.shape[1],
                )
                for name, stream in fitted.rows.streams.items()
            },
            window=train.window,
            stride=train.stride,
            key=key,
            code=code,
            grid=grid,
            widths_s=fitted.widths_s,
        )
        _write(config, meta, inputs, clips, fitted, held_out)
    notes += fitted.notes
    if saved.found:
        n = len(saved.found.epochs)
        notes += (f"went on after {n} epochs of a training that had not ended",)
    result = fitted.result
    return TrainResult("trained", run, result.epochs, result.kept, notes, reason)


def train_config(config: RunConfig, *, force: bool = False) -> TrainResult:
    """Train the head of a config: `train_head` for another process, which takes one argument."""
    return train_head(**dict(config), force=force)


def _write(
    config: RunConfig,
    meta: CheckpointMeta,
    inputs: Inputs,
    clips: ClipGroups,
    fitted: FittedHead,
    held_out: Sequence[str],
) -> None:
    """Write the run's folder; the head is written last, and commits it."""
    run, sets, clip_id = config.run, clips.sets, clips.ids("train")[0]
    result = fitted.result
    alone = texts_alone(clips, config.head, fitted.rows)
    facts = {
        "key": meta.key,
        "encoders": {name: sets.encoder_config(spec, clip_id) for name, spec in sets.specs.items()},
        "specs": {name: spec.model_dump(mode="json") for name, spec in sets.specs.items()},
        "best_epoch": result.kept.index,
    }
    if held_out:
        facts["held_out"] = list(held_out)
    start_run(config, inputs, facts)
    if TENSORBOARD not in config.train.log_to:  # what is there is another training's
        shutil.rmtree(run / TENSORBOARD, ignore_errors=True)
    write_metrics(run, result.epochs)
    if words := prompt_words(fitted.network, meta.grid):
        write_json(run / PROMPTS, words.model_dump(mode="json"))
    if alone:
        alone.write(run)
    with torch.no_grad():
        prototypes = fitted.network.prototypes()
    save_head(run / HEAD_FILE, result.state, prototypes, meta)
    shutil.rmtree(run / TRAINING, ignore_errors=True)
