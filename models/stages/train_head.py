"""The stage `train-head`: a head trained on the features in a store."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from features.errors import InputError
from features.system.devices import torch_device
from features.system.memory import keep_freed_memory
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.data.data_sets import Manifests, Stores, absolute_manifests
from models.data.joined_store import absolute_stores
from models.data.packed import PackedFeatures
from models.data.placement import place_on_device, streaming_note
from models.data.region_prototypes import build_prototypes
from models.data.splits import ClipGroups, check_streams, constant_labels, subject_by_clip
from models.data.statistics import statistics
from models.data.stream_names import Streams
from models.data.train_val import TRAIN_VAL, train_val_clips
from models.data.unlabelled import UNLABELLED, unlabelled_clips
from models.heads import AnyHeadConfig
from models.heads.base import Head, HeadInputs
from models.heads.dspl import DsplConfig
from models.heads.windows import head_windows
from models.metrics.predict import predict
from models.metrics.smoothing import SmoothingWindows, choose_windows, sums_by_window
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
from models.runs.texts_alone import TextsAlone
from models.runs.threads import seeded
from models.runs.training_folder import write_training
from models.stages.pseudo_labels import pseudo_labelled
from models.stages.text_prior import prior_start, texts_alone
from models.training.config import EpochResult, TrainConfig, kept_epoch, preset_train
from models.training.data_sets import on_one_scale
from models.training.last_state import SavedState
from models.training.loop import Fit, check_head, fit
from models.training.loss_config import head_for_streams


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
    on_next_epoch: Callable[[Sequence[EpochResult]], None] | None = None,
) -> TrainResult:
    """Train a head on the features in a store, and write it to the folder `run`.

    No video is read, and the only encoder that runs is CLIP's text encoder. `streams` names the
    feature sets; without it the head reads all sets of the store. A preset's own keys of
    `train` hold unless they are given (`preset_train`). A run with the same config, inputs and code
    is kept, unless `force`; another one is replaced. Label rows and frames of a clip may differ by
    `max_length_mismatch`. Raises `InputError`, `StoreError` or a subclass if the
    inputs do not fit together, before anything is written.
    """
    given, train = train, preset_train(head, train)
    clips, train = on_one_scale(train_val_clips(manifest, store, streams), train)
    sets = clips.sets
    head = head_for_streams(head, train.loss, tuple(sets.specs), sets.with_texts)
    for split in TRAIN_VAL:
        clips.check_annotated(split)
    held_out, notes = (), constant_labels(clips.labels)
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
    write_live = partial(write_training, config)
    saved = SavedState(run / TRAINING / LAST, key, is_new=force, on_write=write_live)
    if not force and (old := key_of_0_1(config, given, inputs)) and read_finished(run, old):
        raise InputError(replaces_run_of_0_1(run))
    device = torch_device(train.device)
    packed = clips.load(max_length_mismatch)
    train_ids, val_ids = (clips.ids(split) for split in TRAIN_VAL)
    train_rows = packed.select([clip_id for clip_id in train_ids if clip_id not in held_out])
    check_streams(sets, train_rows)
    inner_rows = packed.select(held_out) if held_out else None
    val_rows = packed.select(val_ids)
    keep_freed_memory()
    with seeded(train.seed, train.threads):
        try:
            network = build_head(head, clips, train_rows, device)
            placed = place_on_device(train_rows, device, train.bank_mib)
            check_head(network, head, placed, train)
        except ValueError as error:  # a config that is valid key by key, but not together
            raise InputError(f"head: {error}") from error
        val_rows = place_on_device(val_rows, device, train.bank_mib, placed)
        if inner_rows is not None:
            inner_rows = place_on_device(inner_rows, device, train.bank_mib, placed, val_rows)
        extra = None
        if unlabelled:
            extra = unlabelled.load(max_length_mismatch)
            extra = place_on_device(extra, device, train.bank_mib, placed, val_rows)

            def train_teacher(seed: int) -> Head:
                with seeded(seed, train.threads):
                    teacher = build_head(head, clips, train_rows, device)
                    settings = train.model_copy(update={"seed": seed})
                    first = fit(teacher, head, placed, val_rows, settings, grid, inner=inner_rows)
                teacher.load_state_dict(first.state)
                return teacher

            extra = pseudo_labelled(extra, train_rows, clips, head, train, train_teacher)
            notes += streaming_note(extra, UNLABELLED)
        result = fit(
            network,
            head,
            placed,
            val_rows,
            train,
            grid,
            on_epoch,
            inner=inner_rows,
            unlabelled=extra,
            saved=saved,
            on_next_epoch=on_next_epoch,
        )
        network.load_state_dict(result.state)
        widths_s = SmoothingWindows()
        if train.smooth and inner_rows is not None:
            widths_s = _smoothing(network, head, inner_rows, train)
    meta = CheckpointMeta(
        head=head,
        loss=train.loss,
        streams={
            name: StreamMeta(
                feature_set=sets.specs[name].name,
                modality=stream.modality,
                width=stream.values.shape[1],
            )
            for name, stream in packed.streams.items()
        },
        window=train.window,
        stride=train.stride,
        key=key,
        code=code,
        grid=grid,
        widths_s=widths_s,
    )
    _write(
        config, meta, inputs, clips, network, result, held_out, texts_alone(clips, head, train_rows)
    )
    notes += streaming_note(placed)
    if saved.found:
        n = len(saved.found.epochs)
        notes += (f"went on after {n} epochs of a training that had not ended",)
    return TrainResult("trained", run, result.epochs, result.kept, notes, reason)


def train_config(config: RunConfig, *, force: bool = False) -> TrainResult:
    """Train the head of a config: `train_head` for another process, which takes one argument."""
    return train_head(**dict(config), force=force)


def build_head(
    config: AnyHeadConfig, clips: ClipGroups, train: PackedFeatures, device: torch.device
) -> Head:
    """Return the head on the device, with inputs standardised by the training rows.

    Its prompts run on the text encoder of the CLIP whose embeddings they are compared with. A text
    prior is fitted to the training rows.
    """
    sets, grid = clips.sets, grid_of(config.prompts)
    config = config.for_streams(tuple(sets.specs), sets.with_texts)
    text_stream = config.text_stream or ""  # read only by a head with prompts
    inputs = HeadInputs(
        {
            name: statistics(each.values, each.valid, train.index)
            for name, each in train.streams.items()
        },
        sets.with_texts,
        lambda prompts: build_prototypes(sets, text_stream, train.clip_ids[0], prompts, device),
        grid,
        lambda prototypes: prior_start(
            train,
            subject_by_clip(clips.all_clips),
            prototypes,
            grid,
            text_stream,
            is_causal=config.windows == "causal",
        ),
    )
    return config.build(inputs).to(device)


def _smoothing(
    network: Head, head: AnyHeadConfig, held_out: PackedFeatures, train: TrainConfig
) -> SmoothingWindows:
    """The widths with which predictions of held-out training rows are best."""
    windows = head_windows(held_out, head, size=train.window, stride=train.stride)
    return choose_windows(sums_by_window(predict(network, held_out, windows), held_out))


def _write(
    config: RunConfig,
    meta: CheckpointMeta,
    inputs: Inputs,
    clips: ClipGroups,
    head: Head,
    result: Fit,
    held_out: Sequence[str],
    alone: TextsAlone | None,
) -> None:
    """Write the run's folder; the head is written last, and commits it."""
    run, sets, clip_id = config.run, clips.sets, clips.ids("train")[0]
    facts = {
        "key": meta.key,
        "encoders": {name: sets.encoder_config(spec, clip_id) for name, spec in sets.specs.items()},
        "specs": {name: spec.model_dump(mode="json") for name, spec in sets.specs.items()},
        "best_epoch": result.kept.index,
    }
    if held_out:
        facts["held_out"] = list(held_out)
    start_run(config, inputs, facts)
    write_metrics(run, result.epochs)
    if words := prompt_words(head, meta.grid):
        write_json(run / PROMPTS, words.model_dump(mode="json"))
    if alone:
        alone.write(run)
    with torch.no_grad():
        prototypes = head.prototypes()
    save_head(run / HEAD_FILE, result.state, prototypes, meta)
    shutil.rmtree(run / TRAINING, ignore_errors=True)
