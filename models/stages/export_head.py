"""The stage `export-head`: a trained head as a program that runs without vaflow."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue, ValidationError
from torch.export import ExportedProgram

from features.errors import InputError, VaflowError, list_names
from features.manifest.manifest import read_manifest
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore
from features.system.files import check_writable, sha256_of, write_atomic
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.alignment import align_clips
from models.data.data_sets import LabelMap, data_sets
from models.data.feature_sets import open_sets_of_head
from models.data.packed_file import pack_in_memory
from models.data.splits import subject_by_clip
from models.heads.windows import head_windows
from models.metrics.scores import SplitScore
from models.prediction.card import clips_by_split
from models.prediction.model_card import model_card
from models.runs.checkpoint import load_head
from models.runs.exported import (
    CARD,
    FILES,
    ONNX,
    PROGRAM,
    ExportedStream,
    HeadDescription,
    TrainedOn,
)
from models.runs.folder import EXPORTED, HEAD_FILE, PROVENANCE, SCORES, read_json, write_json
from models.runs.predictor import TrainedEnsemble, TrainedHead, open_model
from models.runs.program import (
    VA,
    Arrays,
    HeadProgram,
    arrays_of,
    check_onnx,
    drawn_windows,
    export_program,
    head_program,
    onnx_model,
    saved,
    window_rows,
)
from models.stages.score_head import BY_SET

TOLERANCE = 1e-5  # of valence and arousal, between the program and the run's network
N_CHECKED = 16  # real windows
REMEDY = "delete it to export without what it says, or train again"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The result of an export."""

    output: Path
    description: HeadDescription
    notes: tuple[str, ...]

    def summary(self) -> str:
        """What was written, in one line."""
        windows = " and ".join(self.description.checked)
        return (
            f"export-head: {self.output} has {', '.join([EXPORTED, *self.description.sha256])}; "
            f"on {windows} windows the program differs by at most "
            f"{max(self.description.checked.values()):.1g}"
        )


def export_head(run: Path, output: Path, *, onnx: bool = False) -> ExportResult:
    """Export the head of a run to the folder `output`, which is new or has an earlier export.

    Writes the program, a model card and the description, with `onnx` also the program for ONNX. The
    program is compared with the run's network on random windows, and on those of a clip if the
    store of the training is at hand. Raises `InputError` if there is no head, if the run is an
    ensemble, if the head cannot be exported or if a package for ONNX is missing.
    """
    model = open_model(run)
    if isinstance(model, TrainedEnsemble):
        members = ", ".join(str(member.run) for member in model.members)
        raise InputError(
            f"{run} is an ensemble of {len(model.members)} heads; export each on its own, and "
            f"average what they predict: {members}"
        )
    if onnx:
        check_onnx()
    _check_output(output)
    network = head_program(load_head(run / HEAD_FILE, torch.device("cpu")), model.meta)
    program = export_program(network, model.meta)
    # tracing leaves its marks in torch's RNN modules, so the network is loaded again
    network = head_program(load_head(run / HEAD_FILE, torch.device("cpu")), model.meta)
    checked = {kind: _difference(program, network, each) for kind, each in _windows(model)}
    for kind, difference in checked.items():
        if not difference <= TOLERANCE:
            raise VaflowError(
                f"the exported program of {run} differs by {difference:.2g} from its network on "
                f"{kind} windows, more than {TOLERANCE:g}: this version of torch exports it wrongly"
            )
    outputs = network(*drawn_windows(model.meta))
    files = {PROGRAM: saved(program)} | ({ONNX: onnx_model(program, outputs)} if onnx else {})
    output.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (output / name).unlink(missing_ok=True)
    for name, content in files.items():
        write_atomic(output / name, content)
    description = HeadDescription(
        kind=model.meta.head.kind,
        streams=_streams(model),
        clock=_clock(model),
        windows=model.meta.head.windows,
        stride=model.meta.stride if model.meta.head.windows == "dense" else 1,
        outputs=tuple(outputs),
        label_maps=_label_maps(model),
        smoothing_s=model.meta.widths_s,
        grid=model.meta.grid,
        threads=model.config.train.threads,
        trained_on=_trained_on(model),
        scores=_scores(model),
        checked=checked,
        made_by=_made_by(model),
        sha256={name: sha256_of(output / name) for name in files},
    )
    write_atomic(output / CARD, model_card(description).encode())
    sums = description.sha256 | {CARD: sha256_of(output / CARD)}
    description = description.model_copy(update={"sha256": sums})
    write_json(output / EXPORTED, description.model_dump(mode="json"))
    return ExportResult(output, description, tuple(_notes(description)))


def _check_output(output: Path) -> None:
    check_writable(output, "OUT")
    for part in _left_by_kill(output):
        part.unlink(missing_ok=True)
    names = {path.name for path in output.iterdir()} if output.is_dir() else set[str]()
    if others := sorted(names - set(FILES)):
        raise InputError(
            f"OUT = {output} holds files that do not belong to an exported head "
            f"({list_names(others)}); give another folder"
        )


def _left_by_kill(output: Path) -> list[Path]:
    """Return the unfinished files of an export that was killed."""
    return [path for name in FILES for path in output.glob(f".{name}.*.part")]


def _windows(model: TrainedHead) -> Iterator[tuple[str, Arrays]]:
    """Yield windows to check the program on, with what they are: random, and those of a clip."""
    yield "random", drawn_windows(model.meta)
    try:
        store = data_sets(model.config.manifest, model.config.store)[0].store
        sets = open_sets_of_head(store, model.meta.feature_sets)
        first = next(iter(sets.specs.values()))
        clips = align_clips(
            sets,
            dict.fromkeys(FeatureStore.open(store).clip_ids(first.name)[:1]),
            MAX_LENGTH_MISMATCH,
        )
        packed = pack_in_memory(clips, sets.modalities)
    except (VaflowError, OSError, StopIteration):  # the store of the training is gone
        return
    windows = head_windows(
        packed, model.meta.head, size=model.meta.window, stride=model.meta.stride
    )
    chosen = np.linspace(0, len(windows) - 1, min(N_CHECKED, len(windows))).astype(np.int64)
    yield "real", arrays_of(packed.gather(windows, chosen)[0])


@torch.no_grad()
def _difference(program: ExportedProgram, network: HeadProgram, arrays: Arrays) -> float:
    """Return the largest difference of V and A."""
    return float((program.module()(*arrays)[VA] - network(*arrays)[VA]).abs().max())


def _streams(model: TrainedHead) -> dict[str, ExportedStream]:
    provenance = read_json(model.run / PROVENANCE, REMEDY)
    specs, encoders = (
        found if isinstance(found := provenance.get(key), dict) else {}
        for key in ("specs", "encoders")
    )
    rows = window_rows(model.meta)
    return {
        name: ExportedStream(
            modality=each.modality,
            n_rows=rows[name],
            width=each.width,
            feature_set=each.feature_set,
            spec=specs.get(name),
            encoder=encoders.get(name),
        )
        for name, each in model.meta.streams.items()
    }


def _clock(model: TrainedHead) -> str | None:
    for stream in _streams(model).values():
        try:
            if FeatureSpec.model_validate(stream.spec).has_frame_rows:
                return stream.feature_set
        except ValidationError:  # not known, or of a version with other fields
            continue
    return None


def _label_maps(model: TrainedHead) -> dict[str, LabelMap]:
    maps = model.config.train.label_maps
    return {} if maps == "match" else maps  # a training writes them as numbers


def _trained_on(model: TrainedHead) -> TrainedOn:
    config, train = model.config, model.config.train
    manifests = (config.manifest,) if isinstance(config.manifest, Path) else config.manifest
    subjects: int | None = 0
    try:
        for path in manifests:
            clips = [clip for clip in read_manifest(path).clips if clip.split == "train"]
            subjects += len(set(subject_by_clip(clips).values()))
    except (VaflowError, OSError):  # the manifest is gone, or elsewhere
        subjects = None
    return TrainedOn(
        manifests=tuple(path.name for path in manifests),
        clips={split: len(ids) for split, ids in clips_by_split(model.run).items()},
        subjects=subjects,
        unlabelled=train.unlabelled.name if train.unlabelled else None,
        transductive=bool(train.unlabelled) and train.transductive,
        select=train.select,
        seed=train.seed,
    )


def _scores(model: TrainedHead) -> dict[str, SplitScore]:
    """Return the scores in the run's folder, those of each data set as `SPLIT of SET`."""
    found: dict[str, SplitScore] = {}
    for split, entry in read_json(model.run / SCORES, REMEDY).items():
        if split.endswith(BY_SET):
            of_set = f"{split.removesuffix(BY_SET)} of "
            found |= {f"{of_set}{name}": SplitScore(**each) for name, each in entry.items()}
        else:
            found[split] = SplitScore(**entry)
    return found


def _made_by(model: TrainedHead) -> dict[str, JsonValue]:
    provenance = read_json(model.run / PROVENANCE, REMEDY)
    return {
        "vaflow": version("vaflow"),
        "torch": version("torch"),
        "head_sha256": model.digest(),
        "run_key": model.meta.key,
        "git_commit": provenance.get("git_commit"),
        "trained_at": provenance.get("made_at"),
    }


def _notes(description: HeadDescription) -> Iterator[str]:
    if not description.scores:
        yield (
            "the run has no scores, so the model card has none: `vaflow run score-head run=RUN`, "
            "and export again"
        )
    if missing := [name for name, each in description.streams.items() if each.encoder is None]:
        yield (
            f"which encoder made {' and '.join(missing)} is not known from the run, or the "
            f"features were imported: {EXPORTED} cannot name it"
        )
    if "real" not in description.checked:
        yield "the store of the training is not at hand: the program was checked on random windows"
