"""A head that is trained on the rows of clips, before its run is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from features.errors import InputError
from features.system.devices import torch_device
from features.system.memory import keep_freed_memory
from models.data.kept_statistics import kept_statistics
from models.data.packed import PackedFeatures
from models.data.placement import place_on_device, streaming_note
from models.data.region_prototypes import build_prototypes
from models.data.splits import ClipGroups, check_streams, subject_by_clip
from models.data.train_val import TRAIN_VAL
from models.data.unlabelled import UNLABELLED
from models.heads import AnyHeadConfig
from models.heads.base import Head, HeadInputs
from models.heads.windows import head_windows
from models.metrics.predict import predict
from models.metrics.smoothing import SmoothingWindows, choose_windows, sums_by_window
from models.regions.texts_file import grid_of
from models.runs.folder import RunConfig
from models.runs.threads import seeded
from models.runs.trackers import tracking
from models.runs.training_folder import write_training
from models.stages.pseudo_labels import pseudo_labelled
from models.stages.text_prior import prior_start
from models.training.config import EpochResult, TrainConfig
from models.training.last_state import SavedState
from models.training.loop import Fit, check_head, fit
from models.training.pace import TrainingStep


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A trained head, and what its run tells of it."""

    network: Head
    """With the weights that are kept."""
    result: Fit
    rows: PackedFeatures
    """Those that it was trained on."""
    widths_s: SmoothingWindows
    notes: tuple[str, ...]


def fit_head(
    config: RunConfig,
    clips: ClipGroups,
    held_out: Sequence[str],
    unlabelled: ClipGroups | None,
    saved: SavedState,
    on_epoch: Callable[[EpochResult], None] | None,
    on_step: Callable[[TrainingStep], None] | None,
    on_next_epoch: Callable[[Sequence[EpochResult]], None] | None = None,
) -> FittedHead:
    """Load the rows of the clips and train a head on those that are not held out.

    The epochs go to the trackers of the config; for `on_next_epoch` see `fit`. Raises `InputError`
    if rows, head and settings do not fit together.
    """
    head, train, mismatch = config.head, config.train, config.max_length_mismatch
    grid = grid_of(head.prompts)
    device, notes = torch_device(train.device), ()
    packed = clips.load(mismatch)
    train_ids, val_ids = (clips.ids(split) for split in TRAIN_VAL)
    train_rows = packed.select([clip_id for clip_id in train_ids if clip_id not in held_out])
    check_streams(clips.sets, train_rows)
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
            extra = unlabelled.load(mismatch)
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
        with tracking(config, saved.key, is_new=saved.is_new) as on_epochs:

            def on_write(epochs: Sequence[EpochResult]) -> None:
                write_training(config, epochs)
                on_epochs(epochs)

            saved.on_write = on_write
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
                on_step=on_step,
                on_next_epoch=on_next_epoch,
            )
        network.load_state_dict(result.state)
        widths_s = SmoothingWindows()
        if train.smooth and inner_rows is not None:
            widths_s = _smoothing(network, head, inner_rows, train)
    return FittedHead(network, result, train_rows, widths_s, notes + streaming_note(placed))


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
        kept_statistics(train),
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
