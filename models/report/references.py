"""The scores of simple models, which a report sets beside those of a run."""

from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from models.metrics.scores import SplitScore
from models.runs.folder import BASELINES, read_json

SPLIT = "val"  # that baselines are scored on


@dataclass(frozen=True, slots=True)
class Reference:
    """The scores of one simple model on the labels of the report."""

    name: str
    ccc_valence: float
    ccc_arousal: float
    ccc_mean: float


def read_references(
    run: Path, split: str, score: SplitScore, path: Path | None
) -> tuple[tuple[Reference, ...], str]:
    """Return the baselines in a file, best first, and a sentence that says why there are none.

    The file is what `vaflow run baselines output=FILE` writes; None is `baselines.json` of the run,
    which need not exist. Raises `InputError` if the file is damaged, or if `path` has scores of
    other labels; those in the run's folder are left out.
    """
    if split != SPLIT:
        if path:
            raise InputError(
                f"{path} has scores of the split {SPLIT}, and the report is of {split!r}; leave "
                "the baselines out"
            )
        return (), f"Baselines are scored on the split {SPLIT} only."
    found = path or run / BASELINES
    if not found.is_file():
        if path:
            raise InputError(
                f"there is no file {path} with the scores of baselines; "
                f"`vaflow run baselines ... output={path}` writes it"
            )
        return (), (
            f"No ridge regression is beside it: `vaflow run baselines ... output={found}` scores "
            "the baselines, and the next report shows them."
        )
    entries = read_json(found, "score the baselines again").get(SPLIT)
    try:
        if not isinstance(entries, list):
            raise TypeError(f"{SPLIT} is no list")
        counted = {(entry["n_frames"], entry["n_subjects"]) for entry in entries}
        references = tuple(
            Reference(
                _name(entry["baseline"]),
                float(entry["ccc_valence"]),
                float(entry["ccc_arousal"]),
                float(entry["ccc_mean"]),
            )
            for entry in entries
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{found} is not what `vaflow run baselines output=...` writes ({error}); score the "
            "baselines again"
        ) from None
    if counted - {(score.n_frames, score.n_subjects)}:
        message = (
            f"{found} has scores of other labels than this split's {score.n_frames} of "
            f"{score.n_subjects} subjects; score the baselines on the same manifest again"
        )
        if path:
            raise InputError(message)
        return (), f"No ridge regression is beside it: {message}."
    return tuple(sorted(references, key=lambda each: -each.ccc_mean)), ""


def _name(baseline: dict) -> str:
    """Return the kind of a baseline with the streams that it reads, if it does not read all."""
    streams = baseline.get("streams")
    of = f" ({', '.join(map(str, streams))})" if streams else ""
    return f"{str(baseline['kind']).replace('_', ' ')}{of}"
