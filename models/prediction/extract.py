"""The features of the people in videos: faces are found first, and then encoded."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from features.encoders import AnyEncoderConfig
from features.encoders.faces import FacesConfig
from features.encoders.visual import VisualConfig
from features.errors import MediaError
from features.extraction.extract import extract_clips
from features.extraction.face_crops import with_crops
from features.extraction.options import ExtractionOptions, FramesOf
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.runtime import Runtime
from features.store.feature_store import FeatureStore
from models.prediction.people import (
    MaxPeople,
    VideoPeople,
    copy_record,
    manifest_of,
    people_with_faces,
    whole_frame,
)
from models.prediction.progress import ProgressTeller, VideoProgress

GROUP_PER_READER = 8  # videos of a group at most: less than a tenth of the time is waiting
GROUP_BYTES = 2**29  # of a group's videos, beyond which it ends

OnOutcome = Callable[[Outcome, int], None]
OnProgress = Callable[[VideoProgress], None]


@dataclass(frozen=True, slots=True)
class ExtractedVideos:
    """The people in each video, with their features in the store."""

    people: dict[Path, VideoPeople]
    """Of the videos that did not fail."""
    problems: dict[Path, str]
    """What is wrong with each of the others."""
    notes: dict[Path, tuple[str, ...]]


def with_frames(
    encoders: Sequence[AnyEncoderConfig], frames: FramesOf
) -> tuple[AnyEncoderConfig, ...]:
    """Return the configs with or without a search for faces in that of a visual encoder.

    Where the pictures come from is no part of what a head reads: one that was trained on the crops
    of a data set reads the faces that are found here, too.
    """
    return tuple(
        config.model_copy(update={"faces": _faces(config, frames)})
        if isinstance(config, VisualConfig)
        else config
        for config in encoders
    )


def _faces(config: VisualConfig, frames: FramesOf) -> FacesConfig | None:
    return (config.faces or FacesConfig()) if frames == "faces" else None


def in_groups(paths: Sequence[Path], n_readers: int) -> Iterator[tuple[Path, ...]]:
    """Yield the videos in groups, small at first, so that the first results come soon.

    Readers wait for each other at the end of a group, and batches mix its videos only. So a group
    has several videos for each reader, or one if they are large.
    """
    size, group, n_bytes = n_readers, list[Path](), 0
    for path in paths:
        group.append(path)
        with suppress(OSError):  # the error is reported when the video is read
            n_bytes += path.stat().st_size
        if len(group) >= size or (len(group) >= n_readers and n_bytes >= GROUP_BYTES):
            yield tuple(group)
            size, group, n_bytes = min(2 * size, GROUP_PER_READER * n_readers), [], 0
    if group:
        yield tuple(group)


@dataclass(slots=True)
class VideoExtractor:
    """Finds the people in videos, and encodes what the store lacks of them.

    `on_progress` is called every second or so, by the threads that read videos.
    """

    options: ExtractionOptions
    runtime: Runtime
    max_people: MaxPeople
    on_outcome: OnOutcome | None = None
    on_progress: OnProgress | None = None
    _outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    """The first of each clip and feature set."""
    _n_outcomes: int = 0
    _seconds: float = 0.0

    def extract(self, names: Mapping[Path, str]) -> ExtractedVideos:
        """Extract videos, with the names of their output files; call it as often as need be."""
        people, problems = dict[Path, VideoPeople](), dict[Path, str]()
        for path, name in names.items():
            try:
                people[path] = whole_frame(path, name)
            except MediaError as error:
                problems[path] = str(error)
        options, results = self.options, list[ExtractionResult]()
        visual = (config for config in options.encoders if isinstance(config, VisualConfig))
        if faces := next((config.faces for config in visual if config.faces), None):
            search = replace(options, encoders=(faces,), crops=None)
            results.append(self._pass(list(people.values()), search))
            problems |= _failures(people, results[0])
            store, spec = FeatureStore.open(options.store), faces.spec()
            for path in [path for path in people if path not in problems]:
                try:
                    people[path] = people_with_faces(people[path], store, spec, self.max_people)
                except MediaError as error:
                    problems[path] = str(error)
        good = {path: video for path, video in people.items() if path not in problems}
        first = [replace(video, people=video.people[:1]) for video in good.values()]
        results.append(self._pass(first, options))
        if others := [
            replace(each, people=each.people[1:]) for each in good.values() if each.people[1:]
        ]:
            _share_sound(good.values(), options)
            results.append(self._pass(others, options))
        for result in results:
            problems |= _failures(good, result)
        outcomes = [outcome for result in results for outcome in result.outcomes]
        return ExtractedVideos(
            {path: video for path, video in good.items() if path not in problems},
            problems,
            _notes(people, outcomes),
        )

    @property
    def result(self) -> ExtractionResult:
        """How the extraction of all videos so far has ended."""
        return ExtractionResult(tuple(self._outcomes.values()), self._seconds)

    def _pass(self, videos: Sequence[VideoPeople], options: ExtractionOptions) -> ExtractionResult:
        clips = {person.clip.id: video for video in videos for person in video.people}
        on_read = None
        if self.on_progress:
            on_read = ProgressTeller(clips, options.limits, self.on_progress)
        manifest, n_before = manifest_of(videos), self._n_outcomes

        def tell(outcome: Outcome, total: int) -> None:
            self._n_outcomes += 1
            if self.on_outcome:
                self.on_outcome(outcome, n_before + total)

        result = extract_clips(manifest, options, self.runtime, tell, on_read=on_read)
        result = with_crops(result, manifest, options)
        self._seconds += result.seconds
        for outcome in result.outcomes:
            self._outcomes.setdefault((outcome.clip, outcome.feature_set), outcome)
        return result


def _share_sound(videos: Iterable[VideoPeople], options: ExtractionOptions) -> None:
    """Give all people of a video the sound that was encoded for the first of them."""
    store = FeatureStore.open(options.store)
    for config in (config for config in options.encoders if config.modality == "audio"):
        spec = config.spec()
        for video in videos:
            first, *others = video.people
            for person in others:
                copy_record(store, spec, first.clip.id, person.clip.id)


def _failures(people: Mapping[Path, VideoPeople], extraction: ExtractionResult) -> dict[Path, str]:
    """Return the first failure of each video with one, by path."""
    details = {outcome.clip: outcome.detail for outcome in reversed(extraction.failed)}
    reasons = {clip: text.replace("failed=true", "force=true") for clip, text in details.items()}
    return {
        path: reasons[person.clip.id]
        for path, video in people.items()
        for person in video.people
        if person.clip.id in reasons
    }


def _notes(
    people: Mapping[Path, VideoPeople], outcomes: Sequence[Outcome]
) -> dict[Path, tuple[str, ...]]:
    """Return the notes on the records of each video, each once."""
    path_of = {person.clip.id: path for path, v in people.items() for person in v.people}
    notes: dict[Path, tuple[str, ...]] = {}
    for outcome in outcomes:
        path = path_of[outcome.clip]
        if outcome.note and outcome.note not in notes.get(path, ()):
            notes[path] = (*notes.get(path, ()), outcome.note)
    return notes
