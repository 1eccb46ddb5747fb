"""Training sets of a learning curve: draws of people, and labels with a rater's error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from features.clip import Clip, Split
from features.manifest.labels import Labels, read_labels, write_labels
from features.manifest.manifest import Manifest
from models.data.splits import clips_of_split, subject_by_clip
from models.runs.folder import link_manifest_root
from models.runs.split_manifest import write_split_manifest

FOLDER = "manifests"
"""The folder, inside the run's, of the manifests of the draws."""
KNOTS_S = 2.0  # between the values of a rater's error, which drifts rather than jumps
NOISE_STREAM = 1  # of random numbers; those of people are stream 0


@dataclass(frozen=True, slots=True)
class Condition:
    """What a model of a learning curve is trained on."""

    noise: float
    """Standard deviation of the error that is added to the training labels; 0: none."""
    n_people: int
    """People with labels."""
    is_all: bool
    """Whether these are all people of the train split."""

    @property
    def folder(self) -> str:
        """The name of the folder of its runs."""
        if self.noise:
            return f"noise-{self.noise:g}"
        return "people-all" if self.is_all else f"people-{self.n_people}"

    def __str__(self) -> str:
        """As in progress and messages."""
        people = f"all {self.n_people} people" if self.is_all else f"{self.n_people} people"
        return f"{people}, label noise {self.noise:g}" if self.noise else people


def people_in_order(clips: Sequence[Clip], draw: int) -> tuple[str, ...]:
    """Return the people of the clips in the random order of a draw.

    The first n are the people of this draw of n, so that draws of more people contain those of
    fewer. The order of the clips does not matter.
    """
    people = sorted(set(subject_by_clip(clips).values()))
    return tuple(np.random.default_rng((draw, 0)).permutation(people).tolist())


def with_rater_error(
    labels: Labels, time_s: Float64[np.ndarray, "N"], std: float, draw: int, clip_id: str
) -> Labels:
    """Return the labels of a clip with the error of a rater, clipped to [-1, 1].

    V and A each get a normal deviate with standard deviation `std` every `KNOTS_S`, interpolated
    linearly in between. The same draw of a clip has the same error at every `std`, up to that
    factor.
    """
    n_knots = 2 + int((time_s[-1] - time_s[0]) / KNOTS_S)
    knots_s = time_s[0] + KNOTS_S * np.arange(n_knots)
    rng = np.random.default_rng((draw, NOISE_STREAM, *clip_id.encode()))
    deviates = rng.standard_normal((n_knots, 2))
    error = np.stack([np.interp(time_s, knots_s, column) for column in deviates.T], axis=1)
    va = np.clip(labels.va + std * error, -1, 1)
    return replace(labels, va=np.where(labels.valid[:, None], va, 0.0))


def write_training_set(
    run: Path,
    manifest: Manifest,
    condition: Condition,
    draw: int,
    time_s: Mapping[str, Float64[np.ndarray, "_"]],
) -> tuple[Path, Path | None]:
    """Write the manifests of a draw of some people, or of noisy labels, below the folder `run`.

    Returns that of the training, and that of the train clips of the people that were not drawn;
    None if all were. `time_s` has the times of the rows of each train clip.
    """
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    link_manifest_root(folder, manifest.root)
    name = f"{condition.folder}-draw-{draw}"
    path, clips = folder / f"{name}.jsonl", clips_of_split(manifest, "train")
    splits: dict[str, Split | None] = {clip.id: clip.split for clip in manifest.clips}
    if condition.noise:
        (folder / name).mkdir(exist_ok=True)
        noisy: dict[str, str] = {}
        for clip in clips:
            noisy[clip.id] = f"{name}/{clip.id}.txt"
            labels = read_labels(manifest.path(clip.labels or ""))
            own_s = time_s[clip.id] if labels.time_s is None else labels.time_s
            changed = with_rater_error(labels, own_s, condition.noise, draw, clip.id)
            write_labels(folder / noisy[clip.id], changed)
        write_split_manifest(path, manifest, splits, noisy)
        return path, None
    drawn = people_in_order(clips, draw)[: condition.n_people]
    subjects = subject_by_clip(clips)
    left: dict[str, Split | None] = {
        clip.id: None for clip in clips if subjects[clip.id] not in drawn
    }
    others = folder / f"{name}-others.jsonl"
    write_split_manifest(path, manifest, splits | left)
    write_split_manifest(others, manifest, left)
    return path, others
