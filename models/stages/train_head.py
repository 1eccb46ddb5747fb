"""The stage `train-head`: manifest and store in, a run's folder with a trained head out."""

import hashlib
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from features.canonical_json import canonical
from features.clip import Clip
from features.errors import InputError, LaterVersion
from features.manifest.labels import Labels
from features.manifest.manifest import Manifest, read_manifest
from features.spec import FeatureSpec
from features.store.feature_store import absolute_path
from features.system.devices import torch_device
from features.system.memory import keep_freed_memory
from features.system.provenance import provenance
from features.timeline import MAX_ROWS_APART, RowsApart
from models.data.feature_sets import FeatureSets, Modality, open_sets, records_digest
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.placement import place_on_device, streaming_note
from models.data.splits import clips_of_split, constant_labels, digest_of_labels, read_all_labels
from models.data.statistics import statistics
from models.data.text_tower_of_store import load_text_tower
from models.heads import AnyHeadConfig
from models.heads.base import Head, HeadInputs
from models.heads.dspl import DsplConfig
from models.regions.grid import Grid
from models.regions.nearest_words import prompt_words, write_prompt_words
from models.regions.prompts import AnyPrompts
from models.regions.prototypes import Prototypes
from models.regions.texts_file import read_texts
from models.runs.checkpoint import FILE, CheckpointMeta, read_meta, save_head
from models.runs.folder import (
    METRICS,
    PROVENANCE,
    Inputs,
    RunConfig,
    SetUsed,
    check_run,
    delete_outputs,
    read_metrics,
    run_key,
    write_config,
    write_json,
    write_metrics,
)
from models.training.config import EpochResult, TrainConfig, best_epoch
from models.training.loop import Fit, check_head, fit
from models.training.loss_config import check_loss

SPLITS = ("train", "val")  # trained on, and stopped by


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a training ended."""

    state: Literal["trained", "present"]
    """`present`: the run's folder held this very result already, nothing was done."""
    run: Path
    epochs: tuple[EpochResult, ...]
    best: EpochResult
    """The one whose weights were kept."""
    notes: tuple[str, ...] = ()
    """What is odd about the labels, and about the memory."""


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a training reads, before it is read in full."""

    sets: FeatureSets
    labels: dict[str, dict[str, Labels | None]]
    """By split, then by clip."""
    grid: Grid
    inputs: Inputs


def train_head(
    *,
    manifest: Path,
    store: str,
    run: Path,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    visual: str | None = None,
    audio: str | None = None,
    max_rows_apart: RowsApart = MAX_ROWS_APART,
    force: bool = False,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> TrainResult:
    """Train a head on cached features alone, and leave it in the folder `run`.

    No video is touched and no encoder runs but CLIP's text tower. A run that holds the result
    of the same config and inputs is left as it is, unless `force`; another is replaced. Label
    rows and frames of a clip may be `max_rows_apart` apart. Raises `InputError` and its kin
    where the inputs do not fit, before anything is written.
    """
    check_loss(head, train.loss)
    sources = _look_up(read_manifest(manifest), head, store, visual, audio)
    config = RunConfig(
        manifest=manifest.resolve(),
        store=absolute_path(store),
        run=run.resolve(),
        head=head,
        train=train,
        visual=sources.sets.visual.name,
        audio=sources.sets.audio.name,
        max_rows_apart=max_rows_apart,
    )
    notes = constant_labels(sources.labels["train"] | sources.labels["val"])
    key = run_key(config, sources.inputs)
    if not force and (epochs := _present(run, key)):
        write_config(config)  # manifest or store may have moved
        return TrainResult("present", run, epochs, best_epoch(epochs), notes)
    check_run(run)
    device = torch_device(train.device)
    banks = {
        split: load_packed(sources.sets, labels, max_rows_apart)
        for split, labels in sources.labels.items()
    }
    keep_freed_memory()
    with seeded(train.seed, train.threads):
        try:
            network = build_head(head, sources.sets, banks["train"], device)
            learnt = place_on_device(banks["train"], device, train.bank_mib)
            check_head(network, head, learnt, train)
        except ValueError as error:  # a config that is valid key by key, but not together
            raise InputError(f"head: {error}") from error
        scored = place_on_device(banks["val"], device, train.bank_mib, beside=learnt)
        found = fit(network, head, learnt, scored, train, sources.grid, on_epoch)
    _write(config, sources, key, network, found, banks["train"])
    notes += streaming_note(learnt)
    return TrainResult("trained", run, found.epochs, found.best, notes)


def _look_up(
    manifest: Manifest, head: AnyHeadConfig, store: str, visual: str | None, audio: str | None
) -> _Sources:
    """Sets, labels and digests; no features are read."""
    sets = open_sets(store, visual, audio)
    clips = {split: clips_of_split(manifest, split) for split in SPLITS}
    labels = {split: read_all_labels(manifest, clips[split], required=True) for split in SPLITS}
    for split in SPLITS:
        if not any(item is not None and item.valid.any() for item in labels[split].values()):
            raise InputError(
                f"no row of the split {split!r} is annotated (-5 marks a row that is not); "
                "give it clips with labels"
            )
    inputs = inputs_of(sets, clips, labels["train"] | labels["val"], head)
    return _Sources(sets, labels, read_texts(head.prompts.texts).grid, inputs)


def inputs_of(
    sets: FeatureSets,
    clips: Mapping[str, Sequence[Clip]],
    labels: dict[str, Labels | None],
    head: AnyHeadConfig,
) -> Inputs:
    """Digests of all that is read of clips by split or fold; `StoreError` where any is missing."""
    every = [clip for group in clips.values() for clip in group]
    texts = read_texts(head.prompts.texts).model_dump(mode="json")
    return Inputs(
        visual=_used(sets, every, "visual"),
        audio=_used(sets, every, "audio"),
        clips={name: [clip.id for clip in group] for name, group in clips.items()},
        labels_sha256=digest_of_labels(labels),
        texts_sha256=hashlib.sha256(canonical(texts)).hexdigest(),
    )


def _used(sets: FeatureSets, clips: Sequence[Clip], modality: Modality) -> SetUsed:
    """What is read of one modality."""
    spec: FeatureSpec = getattr(sets, modality)
    digest = records_digest(sets, [clip.id for clip in clips], modality)
    return SetUsed(name=spec.name, digest=spec.digest, records_sha256=digest)


def build_head(
    config: AnyHeadConfig, sets: FeatureSets, train: PackedFeatures, device: torch.device
) -> Head:
    """The head on the device, its inputs scaled by the training rows."""
    inputs = HeadInputs(
        statistics(train.visual, train.visual_valid),
        statistics(train.audio, train.audio_valid),
        partial(_bank_of, sets=sets, clip_id=train.clip_ids[0], device=device),
        read_texts(config.prompts.texts).grid,
    )
    return config.build(inputs).to(device)


def _bank_of(
    prompts: AnyPrompts, *, sets: FeatureSets, clip_id: str, device: torch.device
) -> Prototypes:
    """The prompt bank on the text tower of the CLIP that made the visual features."""
    return prompts.build(load_text_tower(sets, clip_id, device), read_texts(prompts.texts))


@contextmanager
def seeded(seed: int, threads: int | None) -> Iterator[None]:
    """Within, torch draws from this seed, on so many threads; after, all is as before."""
    n_before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(threads or n_before)
        try:
            yield
        finally:
            torch.set_num_threads(n_before)


def _present(run: Path, key: str) -> tuple[EpochResult, ...]:
    """The epochs of the finished run with this key; none where there is no such run."""
    if not (run / FILE).is_file() or not (run / METRICS).is_file():
        return ()
    try:
        return read_metrics(run) if read_meta(run / FILE).key == key else ()
    except LaterVersion:
        raise  # not ours to replace
    except (InputError, ValueError, TypeError):
        return ()  # damaged, or of another vaflow: to be made again


def _write(
    config: RunConfig, sources: _Sources, key: str, head: Head, found: Fit, train: PackedFeatures
) -> None:
    """Fill the run's folder; the head comes last and is the commit."""
    run, sets = config.run, sources.sets
    run.mkdir(parents=True, exist_ok=True)
    delete_outputs(run)
    made_by = {
        "key": key,
        "inputs": sources.inputs.model_dump(mode="json"),
        "encoders": {
            spec.kind: sets.encoder_config(spec, train.clip_ids[0])
            for spec in (sets.visual, sets.audio)
        },
        "seed": config.train.seed,
        "device": str(torch_device(config.train.device)),
        "started_as": shlex.join(sys.orig_argv),
        "best_epoch": found.best.index,
    }
    write_json(run / PROVENANCE, provenance() | made_by)  # first: it marks the folder as a run's
    write_config(config)
    write_metrics(run, found.epochs)
    head.load_state_dict(found.state)
    if words := prompt_words(head, sources.grid):
        write_prompt_words(run, words)
    with torch.no_grad():
        prototypes = head.prototypes()
    meta = CheckpointMeta(
        head=config.head,
        loss=config.train.loss,
        visual=sets.visual.name,
        audio=sets.audio.name,
        visual_width=train.visual.shape[1],
        audio_width=train.audio.shape[1],
        window=config.train.window,
        stride=config.train.stride,
        key=key,
        grid=sources.grid,
    )
    save_head(run / FILE, found.state, prototypes, meta)
