"""The stage `predict`: valence and arousal of any videos, without a manifest or labels."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.encoders import AnyEncoderConfig
from features.errors import InputError, MediaError, list_names
from features.extraction.options import Count, ExtractionOptions, FramesOf
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.plan import check_crops
from features.extraction.runtime import Runtime
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.store.location import absolute_path
from features.system.devices import DeviceName, torch_device
from models.data.feature_sets import FeatureSets, open_sets, sets_of_store
from models.prediction.card import card, facts_of
from models.prediction.encoders import encoders_of
from models.prediction.estimate import ModelEstimator
from models.prediction.extract import VideoExtractor, in_groups, with_frames
from models.prediction.people import MaxPeople, VideoPeople
from models.prediction.predict_video import PredictedVideo, VideoPredictor, overlay_name
from models.prediction.progress import VideoProgress
from models.prediction.record import (
    FEATURES,
    PAGE,
    RESERVED,
    Record,
    VideoEntry,
    delete_files,
    made_with,
    output_lock,
    read_record,
    shown_path,
    with_entry,
    write_record,
)
from models.prediction.tables import TableFormat, check_table_format
from models.prediction.videos import find_videos, name_outputs, video_id
from models.prediction.zero_shot import ZeroShotModel
from models.regions.prompts import FixedPrompts
from models.runs.exported import AnyModel, open_any_model


@dataclass(frozen=True, slots=True)
class VideoResult:
    """How the prediction of one video ended."""

    video: Path
    name: str
    state: Literal["predicted", "present", "failed"]
    """`present` if its files were up to date and nothing was done."""
    problem: str = ""
    notes: tuple[str, ...] = ()
    n_frames: int = 0
    n_people: int = 0
    seconds: float = 0.0
    """Of prediction and writing; not those of the extraction."""


@dataclass(frozen=True, slots=True)
class PredictResult:
    """The result of a prediction."""

    output: Path
    videos: tuple[VideoResult, ...]
    left_out: tuple[Path, ...]
    """Files of the given folders that are no videos."""
    extraction: ExtractionResult
    page: Path

    @property
    def counts(self) -> Counter[str]:
        """Number of videos by outcome."""
        return Counter(each.state for each in self.videos)

    @property
    def failed(self) -> tuple[VideoResult, ...]:
        """The videos that could not be predicted."""
        return tuple(each for each in self.videos if each.state == "failed")

    def summary(self) -> str:
        """The counts in one line."""
        counts = self.counts
        failed = f", {n} failed" if (n := counts["failed"]) else ""
        frames = sum(each.n_frames for each in self.videos if each.state == "predicted")
        return (
            f"predict: {counts['predicted']} videos predicted ({frames} frames), "
            f"{counts['present']} up to date{failed}; {self.page} shows them"
        )

    def remarks(self) -> Iterator[str]:
        """Yield a line on the files that were left out, and one for each note on a video."""
        if self.left_out:
            names = [path.name for path in self.left_out]
            yield f"  left out, as their suffixes are not those of videos: {list_names(names)}"
        for each in self.videos:
            yield from (f"  note: {each.name}: {note}" for note in each.notes)


def predict(
    *,
    videos: tuple[str, ...],
    output: Path,
    run: Path | None = None,
    encoders: tuple[AnyEncoderConfig, ...] = (),
    store: str | None = None,
    frames: FramesOf = "faces",
    crops: Path | None = None,
    people: MaxPeople = "all",
    zero_shot: bool = False,
    prompts: FixedPrompts = FixedPrompts(),
    affine: Path | None = None,
    format: TableFormat = "csv",
    overlay: bool = False,
    device: DeviceName = "auto",
    batch_size: Count | None = None,
    readers: Count | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    on_video: Callable[[VideoResult, int], None] | None = None,
    on_progress: Callable[[VideoProgress], None] | None = None,
) -> PredictResult:
    """Predict every frame of videos with the model in the folder `run`, or zero-shot.

    `videos` are files, folders and patterns. With `frames` "faces", the faces of up to `people`
    people are found in each video, and a video without one fails; "whole" reads whole frames.
    Zero-shot values are matched as the file `affine` says, which the stage `zero-shot` has written.
    Features go to `store`, by default in `output`; what is there is not encoded again. The encoded
    faces are also written to the folder `crops` if it is given. The encoders are those of the run
    unless they are given. Writes for each video a table and a timeline, with
    `overlay` also a video, and for all of them `predictions.json` and `index.html`. A video that
    fails is a `VideoResult`, and the others go on. Raises `InputError`, `SpecMismatch` or
    `StoreError` before anything is written if the inputs do not fit together.
    """
    check_table_format(format)
    found = find_videos(videos, output)
    model = _model_of(run, zero_shot, affine)
    texts = ZeroShotModel.read(affine, prompts) if affine else ZeroShotModel(prompts=prompts)
    if zero_shot:
        texts.check_encoders(encoders)
    configs = with_frames(encoders_of(model, encoders) if model else encoders, frames)
    read_record(output)  # raises before anything is written; it is read again once it is locked
    matched = shown_path(affine.resolve()) if affine else None
    facts = facts_of(model, configs) | {"matched by": matched, "device": device}
    options = ExtractionOptions(
        absolute_path(store) if store else str(output.resolve() / FEATURES),
        configs,
        device,
        batch_size,
        readers,
        limits,
        force=force,
        crops=crops,
    )
    if crops:
        check_crops(crops, options)
    about = card(model, configs, whole_frames=frames == "whole", matched=texts.is_matched)
    from models.prediction.page import write_page  # imports matplotlib, which is slow

    with closing(Runtime(device)) as runtime, output_lock(output):
        record = read_record(output).model_copy(update={"made_with": made_with(facts)})
        names = name_outputs(found.paths, record.names(), RESERVED)
        write_record(output, record)  # marks the folder as one of predictions
        extractor = VideoExtractor(options, runtime, people, on_outcome, on_progress)
        predictor, results = None, list[VideoResult]()
        for group in in_groups(found.paths, options.n_readers):
            extracted, before = extractor.extract({path: names[path] for path in group}), record
            for path in group:
                if problem := extracted.problems.get(path):
                    result, record = _fail(output, record, path, names[path], problem)
                else:
                    video, notes = extracted.people[path], extracted.notes.get(path, ())
                    if predictor is None:
                        sets = _sets_of(options.store, model, configs)
                        clip_id = video.people[0].clip.id
                        predictor = VideoPredictor(
                            output,
                            sets,
                            ModelEstimator(model) if model else texts.estimator(sets, clip_id),
                            torch_device(device),
                            format,
                            overlay=overlay,
                            limits=limits,
                        )
                    result, record = _predict(predictor, record, video, notes, force)
                results.append(result)
                if on_video:
                    on_video(result, len(found.paths))
            if record is not before or len(results) == len(found.paths):
                write_page(output, record, about)
    return PredictResult(output, tuple(results), found.left_out, extractor.result, output / PAGE)


def _model_of(run: Path | None, zero_shot: bool, affine: Path | None) -> AnyModel | None:
    """Return the model; None for a zero-shot prediction."""
    if affine and not zero_shot:
        raise InputError(
            "affine is of a zero-shot prediction: give zero_shot=true, or leave it out"
        )
    if (run is None) != zero_shot:
        raise InputError(
            "run and zero_shot=true exclude each other: leave one of them out"
            if run
            else "run is missing: give the folder of a trained head or ensemble, or zero_shot=true "
            "to predict from the region texts alone"
        )
    return open_any_model(run) if run else None


def _sets_of(
    store: str, model: AnyModel | None, encoders: Sequence[AnyEncoderConfig]
) -> FeatureSets:
    """Return the feature sets of the encoders, by the names of the streams that the model reads."""
    names = [config.spec().name for config in encoders]
    if model is None:
        return sets_of_store(store, names)
    trained_on = dict.fromkeys(model.meta.feature_sets.values())
    made = dict(zip(trained_on, names, strict=True))
    return open_sets(
        store, {stream: made[name] for stream, name in model.meta.feature_sets.items()}
    )


def _fail(
    output: Path, record: Record, path: Path, name: str, problem: str
) -> tuple[VideoResult, Record]:
    """Record that a video failed; the files of an earlier prediction are deleted."""
    delete_files(output, record.videos.get(video_id(path)))
    entry = VideoEntry(name=name, video=shown_path(path), state="failed", problem=problem)
    record = with_entry(record, video_id(path), entry)
    write_record(output, record)
    return VideoResult(path, name, "failed", problem), record


def _predict(
    predictor: VideoPredictor,
    record: Record,
    video: VideoPeople,
    notes: tuple[str, ...],
    force: bool,
) -> tuple[VideoResult, Record]:
    """Predict a video unless its files are up to date; the entry in the record is written last."""
    key, entry = predictor.key(video), record.videos.get(video.id)
    intact = entry.intact(predictor.output, key) if entry else frozenset[str]()
    wanted = predictor.file_names(video)
    if entry and not force and wanted <= intact == set(entry.files):
        result = VideoResult(
            video.path, video.name, "present", "", notes, entry.frames, len(entry.people)
        )
        return result, record
    kept = intact & (wanted | {overlay_name(video)})
    delete_files(predictor.output, entry, kept)  # a killed prediction leaves nothing stale
    if force:
        kept -= wanted
    try:
        predicted: PredictedVideo = predictor.predict(video, notes, key, kept)
    except MediaError as error:  # of the overlay, which decodes the video again
        return _fail(predictor.output, record, video.path, video.name, str(error))
    record = with_entry(record, video.id, predicted.entry)
    write_record(predictor.output, record)
    return (
        VideoResult(
            video.path,
            video.name,
            "predicted",
            "",
            notes,
            predicted.entry.frames,
            len(video.people),
            predicted.seconds,
        ),
        record,
    )
