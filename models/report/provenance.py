"""How a run came about, and what to type to make it again."""

import json
import shlex
from collections.abc import Iterator

from features.canonical_json import JsonObject
from features.errors import InputError
from models.runs.checkpoint import FILE
from models.runs.folder import CONFIG, PROVENANCE
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import RunSplit

PROVENANCE_FIELDS = {
    "seed": "seed",
    "device": "device",
    "git commit": "git_commit",
    "trained at": "made_at",
    f"key of {FILE}": "key",
}


def provenance_of(source: RunSplit) -> JsonObject:
    """What was written down when the head was made; empty where the file is gone."""
    path = source.run / PROVENANCE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(
            f"{path} is not JSON ({error}); delete it to do without, or train again"
        ) from None
    return found if isinstance(found, dict) else {}


def commands_of(source: RunSplit) -> tuple[tuple[str, str], ...]:
    """What each does, and the line to type, for head, score and report of this split."""
    run, config = source.run.resolve(), source.config
    used, trained = (
        {
            "manifest": str(each.manifest),
            "store": each.store,
            "max_length_mismatch": str(each.max_length_mismatch),
        }
        for each in (source, config)
    )
    moved = {key: value for key, value in used.items() if value != trained[key]}
    keys = [f"{key}={value}" for key, value in moved.items()]
    options = [
        word for key, value in moved.items() for word in (f"--{key.replace('_', '-')}", value)
    ]
    is_ensemble = isinstance(source.predictor, TrainedEnsemble)
    stage, what = ("train-ensemble", "ensemble") if is_ensemble else ("train-head", "head")
    train = ["run", stage, "-c", str(run / CONFIG), f"run={run}-again"]
    score = ["run", "score-head", f"run={run}", f"split={source.name}", *keys]
    report = ["report", str(run), "--split", source.name, *options]
    return (
        (f"Train the same {what} again, beside this one", shlex.join(["vaflow", *train])),
        ("Score this one", shlex.join(["vaflow", *score])),
        ("Make this report again", shlex.join(["vaflow", *report])),
    )


def facts_of(made_by: JsonObject) -> Iterator[tuple[str, str]]:
    """What is known of the making, name by name; what is not known is left out.

    `InputError` where the record is not of the shape that a training leaves.
    """
    try:
        yield from ((name, str(value)) for name, value in _facts_of(made_by) if value is not None)
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"the {PROVENANCE} of the run is damaged ({error}); delete it to do without, or train "
            "again"
        ) from None


def _facts_of(made_by: JsonObject) -> Iterator[tuple[str, object]]:
    """The same of a record of the right shape, with None where it says nothing."""
    inputs, versions = made_by.get("inputs") or {}, made_by.get("versions") or {}
    for modality in ("visual", "audio"):
        used = inputs.get(modality) or {}
        yield f"{modality} features", used.get("name")
        yield f"sha256 of the {modality} records", used.get("records_sha256")
    yield "sha256 of the labels", inputs.get("labels_sha256")
    yield "sha256 of the region texts", inputs.get("texts_sha256")
    for split, clips in (inputs.get("clips") or {}).items():
        yield f"clips of the split {split}", len(clips)
    for kind, encoder in (made_by.get("encoders") or {}).items():
        yield f"encoder {kind}", json.dumps(encoder, sort_keys=True, ensure_ascii=False)
    for name, key in PROVENANCE_FIELDS.items():
        yield name, made_by.get(key)
    yield "versions", ", ".join(f"{name} {number}" for name, number in versions.items()) or None
