"""The features of the people in videos: faces are found first, and then encoded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from features.encoders import AnyEncoderConfig
from features.encoders.faces import FacesConfig
from features.encoders.visual import VisualConfig
from features.errors import MediaError
from features.extraction.extract import extract_manifest
from features.extraction.options import ExtractionOptions, FramesOf
from features.extraction.outcome import ExtractionResult, Outcome
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
    extraction: ExtractionResult


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


def extract_videos(
    names: Mapping[Path, str],
    options: ExtractionOptions,
    max_people: MaxPeople,
    on_outcome: OnOutcome | None,
    on_progress: OnProgress | None = None,
) -> ExtractedVideos:
    """Find the people in videos, and encode what the store lacks of them.

    `names` are those of the output files by video. `on_progress` is called every second or so, by
    the threads that read videos.
    """

    def extract(videos: Sequence[VideoPeople], options: ExtractionOptions) -> ExtractionResult:
        clips = {person.clip.id: video for video in videos for person in video.people}
        on_read = None
        if on_progress:
            on_read = ProgressTeller(clips, options.limits, on_progress)
        return extract_manifest(manifest_of(videos), options, on_outcome, on_read=on_read)

    people, problems = dict[Path, VideoPeople](), dict[Path, str]()
    for path, name in names.items():
        try:
            people[path] = whole_frame(path, name)
        except MediaError as error:
            problems[path] = str(error)
    results: list[ExtractionResult] = []
    visual = (config for config in options.encoders if isinstance(config, VisualConfig))
    if faces := next((config.faces for config in visual if config.faces), None):
        found = extract(list(people.values()), replace(options, encoders=(faces,), crops=None))
        problems |= _failures(people, found)
        results.append(found)
        store, spec = FeatureStore.open(options.store), faces.spec()
        for path in [path for path in people if path not in problems]:
            try:
                people[path] = people_with_faces(people[path], store, spec, max_people)
            except MediaError as error:
                problems[path] = str(error)
    good = {path: video for path, video in people.items() if path not in problems}
    results.append(
        extract([replace(video, people=video.people[:1]) for video in good.values()], options)
    )
    if others := [
        replace(each, people=each.people[1:]) for each in good.values() if each.people[1:]
    ]:
        _share_sound(good.values(), options)
        results.append(extract(others, options))
    for result in results:
        problems |= _failures(good, result)
    outcomes = tuple(
        {(o.clip, o.feature_set): o for r in reversed(results) for o in r.outcomes}.values()
    )
    seconds = sum(result.seconds for result in results)
    return ExtractedVideos(
        {path: video for path, video in good.items() if path not in problems},
        problems,
        _notes(people, outcomes),
        replace(results[-1], outcomes=outcomes, seconds=seconds),
    )


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
