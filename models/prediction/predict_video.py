"""Predicts one video and writes its files; one video's features are in memory at a time."""

import glob
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from features.canonical_json import canonical_sha256
from features.media.limits import DecodeLimits
from features.system.files import sha256_of, write_atomic
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.alignment import align_clips
from models.data.feature_sets import FeatureSets, record_files
from models.data.packed import PackedFeatures
from models.data.packed_file import pack_in_memory
from models.data.placement import place_on_device
from models.prediction.estimate import Estimator
from models.prediction.people import Person, VideoPeople
from models.prediction.record import PersonSummary, VideoEntry, shown_path
from models.prediction.rows import PersonRows, person_rows, region_words
from models.prediction.tables import TableFormat, write_table

VERSION = 2  # raise it when the files of the same input change
LOW, HIGH = 10, 90  # percentiles of a person's summary


@dataclass(frozen=True, slots=True)
class PredictedVideo:
    """A video whose files are written."""

    entry: VideoEntry
    seconds: float


@dataclass(frozen=True, slots=True)
class VideoPredictor:
    """Predicts videos whose features are in a store."""

    output: Path
    sets: FeatureSets
    estimator: Estimator
    device: torch.device
    table: TableFormat
    overlay: bool
    limits: DecodeLimits

    def key(self, video: VideoPeople) -> str:
        """Return the sha256 of everything that determines the predictions of a video.

        Raises `StoreError` if a record is missing.
        """
        clip_ids = [person.clip.id for person in video.people]
        specs = self.sets.specs
        commits = [
            self.sets.store.commit(spec.name, each) for spec in specs.values() for each in clip_ids
        ]
        return canonical_sha256(
            {
                "version": VERSION,
                "estimator": self.estimator.digest(),
                **{
                    stream: dict(record_files(self.sets, clip_ids, spec))
                    for stream, spec in specs.items()
                },
                "sources": [commit.source if commit else None for commit in commits],
            }
        )

    def file_names(self, video: VideoPeople) -> frozenset[str]:
        """Return the names of the files that are asked for."""
        names = frozenset(f"{video.name}.{suffix}" for suffix in (self.table, "svg", "png"))
        return names | {overlay_name(video)} if self.overlay else names

    def predict(
        self, video: VideoPeople, notes: tuple[str, ...], key: str, kept: Collection[str]
    ) -> PredictedVideo:
        """Predict every person, and write the table, the timeline and the overlay.

        `kept` are files of the same predictions: an overlay among them is not written again. Raises
        `StoreError` if a record cannot be read, and `MediaError` if the video, which the overlay
        decodes again, has become unreadable.
        """
        began = time.monotonic()
        for part in self.output.glob(f".{glob.escape(video.name)}.*.part"):
            part.unlink(missing_ok=True)  # of a killed prediction; an overlay may be large
        people = [self._rows(person) for person in video.people]
        overlay = self.output / overlay_name(video)
        files = [self.output / f"{video.name}.{suffix}" for suffix in (self.table, "svg", "png")]
        if self.overlay and overlay.name not in kept:  # first: it alone can fail
            from models.prediction.overlay import write_overlay  # imports matplotlib, as below

            words = region_words(self.estimator.grid)
            write_overlay(overlay, video.path, people, words, self.limits)
        from models.prediction import figure  # imports matplotlib, which is slow

        write_table(files[0], self.table, people, self.estimator.grid)
        write_atomic(files[1], figure.timeline_svg(video.name, people))
        write_atomic(files[2], figure.timeline_png(people))
        if self.overlay or overlay.name in kept:
            files.append(overlay)
        entry = VideoEntry(
            name=video.name,
            video=shown_path(video.path),
            state="predicted",
            key=key,
            files={path.name: sha256_of(path) for path in files},
            frames=len(people[0].time_s),
            duration_s=people[0].duration_s,
            people=tuple(summary(person) for person in people),
            notes=notes,
        )
        return PredictedVideo(entry, time.monotonic() - began)

    def _rows(self, person: Person) -> PersonRows:
        packed = place_on_device(self._packed(person.clip.id), self.device, None)
        estimate = self.estimator.estimate(packed)
        boxes = person.read_boxes() if person.read_boxes else None
        return person_rows(person.number, packed, estimate, boxes)

    def _packed(self, clip_id: str) -> PackedFeatures:
        """Return the rows of one clip; nothing is kept beside the store, as for a training."""
        clips = align_clips(self.sets, {clip_id: None}, MAX_LENGTH_MISMATCH)
        return pack_in_memory(clips, self.sets.modalities)


def overlay_name(video: VideoPeople) -> str:
    """Return the name of the overlay of a video."""
    return f"{video.name}.overlay.mp4"


def summary(person: PersonRows) -> PersonSummary:
    """Return means and percentiles over all rows of a person."""
    low, high = np.percentile(person.va, (LOW, HIGH), axis=0)
    mean = person.va.mean(axis=0)
    return PersonSummary(
        person=person.number,
        frames=len(person.time_s),
        valid=int(person.valid.sum()),
        valence_mean=float(mean[0]),
        arousal_mean=float(mean[1]),
        valence_low=float(low[0]),
        valence_high=float(high[0]),
        arousal_low=float(low[1]),
        arousal_high=float(high[1]),
    )
