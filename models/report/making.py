"""How a run was made, and how to make it again, as a report tells it."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from features.canonical_json import JsonObject
from features.errors import InputError
from models.data.data_sets import Manifests, Stores
from models.runs.folder import CONFIG, HEAD_FILE, PROVENANCE, read_json
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import RunSplit
from models.training.old_keys import OLD_STREAMS

PROVENANCE_FIELDS = {
    "seed": "seed",
    "device": "device",
    "git commit": "git_commit",
    "trained at": "made_at",
    f"key of {HEAD_FILE}": "key",
}


def read_provenance(run: Path) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """Return the command line of the training, None if not recorded, and its named facts.

    Raises `InputError` if the file is damaged; one that is missing has no facts.
    """
    record = read_json(run / PROVENANCE, "delete it to do without, or train again")
    try:
        facts = tuple((k, str(fact)) for k, fact in _facts_of(record) if fact is not None)
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"the {PROVENANCE} of the run is damaged ({error}); delete it to do without, or train "
            "again"
        ) from None
    return record.get("started_as"), facts


def commands_of(source: RunSplit) -> tuple[tuple[str, str], ...]:
    """Return what can be done with the run: a description and a command line each."""
    run, config = source.run.resolve(), source.predictor.config
    used, trained = (
        {
            "manifest": _listed(each.manifest),
            "store": _listed(each.store),
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


def _listed(paths: Manifests | Stores) -> str:
    """Return the value of a key that has one path, or a list of them."""
    return f"[{','.join(map(str, paths))}]" if isinstance(paths, tuple) else str(paths)


def _facts_of(record: JsonObject) -> Iterator[tuple[str, object]]:
    """Yield the facts of a well-formed record; None for a missing one."""
    inputs, versions = record.get("inputs") or {}, record.get("versions") or {}
    streams = inputs.get("streams") or {stream: inputs.get(stream) for stream in OLD_STREAMS}
    for stream, used in streams.items():
        yield f"{stream} features", (used or {}).get("name")
        yield f"sha256 of the {stream} records", (used or {}).get("records_sha256")
    yield "sha256 of the labels", inputs.get("labels_sha256")
    yield "sha256 of the region texts", inputs.get("texts_sha256")
    for split, clips in (inputs.get("clips") or {}).items():
        yield f"clips of the split {split}", len(clips)
    for kind, encoder in (record.get("encoders") or {}).items():
        yield f"encoder {kind}", json.dumps(encoder, sort_keys=True, ensure_ascii=False)
    for name, key in PROVENANCE_FIELDS.items():
        yield name, record.get(key)
    yield "versions", ", ".join(f"{name} {number}" for name, number in versions.items()) or None
