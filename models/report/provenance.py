"""The provenance of a run, and the commands that repeat it."""

import json
import shlex
from collections.abc import Iterator

from features.canonical_json import JsonObject
from features.errors import InputError
from models.runs.folder import CONFIG, HEAD_FILE, PROVENANCE
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import RunSplit

PROVENANCE_FIELDS = {
    "seed": "seed",
    "device": "device",
    "git commit": "git_commit",
    "trained at": "made_at",
    f"key of {HEAD_FILE}": "key",
}


def commands_of(source: RunSplit) -> tuple[tuple[str, str], ...]:
    """A description and a command line for training, scoring and report of this split."""
    run, config = source.run.resolve(), source.predictor.config
    used, trained = (
        {
            "manifest": str(each.manifest),
            "store": each.store,
            "max_length_mismatch": str(each.max_length_mismatch),
        }
        for each in (source, config)
    )
    changed = {key: value for key, value in used.items() if value != trained[key]}
    keys = [f"{key}={value}" for key, value in changed.items()]
    options = [
        word for key, value in changed.items() for word in (f"--{key.replace('_', '-')}", value)
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


def facts_of(record: JsonObject) -> Iterator[tuple[str, str]]:
    """The known facts of a provenance record, as names and values.

    Raises `InputError` if the record does not have the shape that a training writes.
    """
    try:
        yield from ((name, str(value)) for name, value in _facts_of(record) if value is not None)
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"the {PROVENANCE} of the run is damaged ({error}); delete it to do without, or train "
            "again"
        ) from None


def _facts_of(record: JsonObject) -> Iterator[tuple[str, object]]:
    """The facts of a well-formed record; None for a fact that it lacks."""
    inputs, versions = record.get("inputs") or {}, record.get("versions") or {}
    for modality in ("visual", "audio"):
        used = inputs.get(modality) or {}
        yield f"{modality} features", used.get("name")
        yield f"sha256 of the {modality} records", used.get("records_sha256")
    yield "sha256 of the labels", inputs.get("labels_sha256")
    yield "sha256 of the region texts", inputs.get("texts_sha256")
    for split, clips in (inputs.get("clips") or {}).items():
        yield f"clips of the split {split}", len(clips)
    for kind, encoder in (record.get("encoders") or {}).items():
        yield f"encoder {kind}", json.dumps(encoder, sort_keys=True, ensure_ascii=False)
    for name, key in PROVENANCE_FIELDS.items():
        yield name, record.get(key)
    yield "versions", ", ".join(f"{name} {number}" for name, number in versions.items()) or None
