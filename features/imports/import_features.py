"""Import of features that were made elsewhere: files of rows become a feature set of a store."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from features.canonical_json import JsonObject, canonical_sha256
from features.clip import Clip, Track
from features.encoder_kinds import MODALITY
from features.errors import InputError, MediaError, list_names
from features.freshness.clip_state import clip_state
from features.freshness.digest_cache import open_cache
from features.freshness.media_digests import SourceDigests
from features.imports.files import CLIP_COLUMN, NAMES_CLIPS, TIME_COLUMN, ReadOptions, read_clips
from features.imports.rows import ClipRows
from features.manifest.manifest import Manifest, read_manifest
from features.media.decoder_version import decoder_version
from features.spec import FRAMES, FeatureSpec
from features.store.feature_store import FeatureStore
from features.system.provenance import provenance
from features.system.weights_file import WeightsFile

KIND = re.compile(r"[a-z][a-z0-9]{0,39}")  # the name of a feature set begins with it
EPOCH = 1  # of the code that reads files, see FeatureSpec.epoch


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What is imported, and as what; `InputError` if it cannot be."""

    files: tuple[Path, ...]
    kind: str
    modality: Literal["visual", "audio"]
    reading: ReadOptions = field(default_factory=ReadOptions)
    has_frame_rows: bool = False
    """Whether each row is a frame of the video, one after the other."""

    def __post_init__(self) -> None:
        """Check the kind, and what the files and the options say together."""
        if not KIND.fullmatch(self.kind):
            raise InputError(
                f"--kind {self.kind!r}: give a name of small letters and digits that begins with a "
                "letter, such as openface"
            )
        if self.kind in MODALITY:
            raise InputError(
                f"--kind {self.kind!r} is the kind of an encoder of vaflow; give the features a "
                "name of their own"
            )
        if self.has_frame_rows and self.modality != "visual":
            raise InputError("--frame-rows: rows of sound are no frames; leave it out")
        several = len(self.files) > 1
        for option, value in (("--clip", self.reading.clip), ("--times", self.reading.times)):
            if value is not None and several:
                raise InputError(
                    f"{option} is of one file, and there are {len(self.files)}; import a table or "
                    "an .npz of all clips, or name each file after its clip"
                )
        for path in self.files:
            if self.reading.clip and _names_clips(path):
                raise InputError(f"--clip: {path} names its clips itself; leave --clip out")
            if self.reading.times and path.suffix.lower() != ".npy":
                raise InputError(f"--times: {path} has times of its own; it is for .npy only")


@dataclass
class ImportResult:
    """What became of each clip."""

    feature_set: str
    width: int
    written: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    """Clips whose record the store has already."""
    unknown: list[str] = field(default_factory=list)
    """What was left out: clips that the manifest lacks, and where they are."""
    failed: list[str] = field(default_factory=list)
    """Clips whose media cannot be read, and why."""
    without: tuple[str, ...] = ()
    """Clips of the manifest that the files lack."""
    n_rows: int = 0
    """Rows of all clips that were read."""
    earlier: tuple[str, ...] = ()
    """Other feature sets of this kind."""


def import_features(
    options: ImportOptions,
    store: str,
    manifest: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportResult:
    """Write the rows of some files as a feature set, whose spec has the sha256 of the files.

    All of them are checked before anything is written. Each clip is then a record that appears
    whole or not at all, by the one writer of the store; a clip that has its record is left alone.
    `on_progress` is called with the clips that are done and their number. Raises `InputError` that
    names file, clip, row and value if a rule is broken, or if the manifest has none of the clips.
    """
    clips = read_manifest(manifest)
    opened = FeatureStore.open_or_plan(store)
    files = [WeightsFile.of(_existing(path)) for path in options.files]
    known = {clip.id: clip for clip in clips.clips}
    checked = _check_all(options, files, known, manifest)
    spec = _spec(options, files, checked)
    result = ImportResult(spec.name, checked.width, unknown=checked.unknown)
    result.without = tuple(clip for clip in known if clip not in checked.n_rows)
    result.n_rows = sum(checked.n_rows.values())
    opened.create()
    opened.restore_spec(spec)
    result.earlier = tuple(opened.sets_beside(spec))
    with open_cache(opened.work) as cache, closing(SourceDigests(cache)) as digests:
        writer = _Writer(opened, spec, clips, digests, result, provenance())
        n_done = 0
        for file in files:
            for rows in read_clips(file.path, options.reading):
                if rows.clip in known:
                    writer.add(known[rows.clip], rows.track, file)
                    n_done += 1
                    if on_progress:
                        on_progress(n_done, len(checked.n_rows))
    return result


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"there is no file {path}; check the path")
    return path


@dataclass
class _Checked:
    """What is known of files whose rows keep the rules."""

    n_rows: dict[str, int] = field(default_factory=dict)
    """By clip that the manifest has."""
    unknown: list[str] = field(default_factory=list)
    width: int = 0
    columns: tuple[str, ...] | None = None


def _check_all(
    options: ImportOptions, files: Sequence[WeightsFile], known: dict[str, Clip], manifest: Path
) -> _Checked:
    """Check every row of every file; raises `InputError`."""
    checked, places = _Checked(), dict[str, str]()
    for file in files:
        for rows in read_clips(file.path, options.reading):
            if other := places.get(rows.clip):
                raise InputError(
                    f"{rows.where}: its rows are also in {other}; give the features of a clip once"
                )
            track = rows.track()
            if not places:
                checked.width, checked.columns = track.values.shape[1], rows.columns
            _check_alike(rows, checked, next(iter(places.values()), ""))
            places[rows.clip] = rows.where
            if rows.clip in known:
                checked.n_rows[rows.clip] = len(track.time_s)
            else:
                near = get_close_matches(rows.clip, known, n=1, cutoff=0.6)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                checked.unknown.append(f"{rows.where}: {manifest} has no such clip{meant}")
    if not checked.n_rows:
        raise InputError(
            f"{manifest} has none of the clips of {', '.join(str(f.path) for f in files)}: "
            f"{list_names(list(places))}; its clips are {list_names(list(known))}. Name the clips "
            "as the manifest does"
        )
    return checked


def _check_alike(rows: ClipRows, checked: _Checked, first: str) -> None:
    """Raise `InputError` if a clip has other columns than the first one."""
    if rows.values.shape[1] != checked.width:
        raise InputError(
            f"{rows.where}: rows of {rows.values.shape[1]} numbers, and {first} has "
            f"{checked.width}; all rows of a feature set have one width: import the two apart, "
            "with another --kind"
        )
    if rows.columns != checked.columns:
        raise InputError(
            f"{rows.where}: its columns are not those of {first}, or in another order; write all "
            "files with the same header"
        )


def _spec(options: ImportOptions, files: Sequence[WeightsFile], checked: _Checked) -> FeatureSpec:
    reading = options.reading
    model: JsonObject = {"name": options.kind, "imported": options.modality, "width": checked.width}
    if checked.columns:
        model["columns"] = list(checked.columns)
    parts = sorted((_clip_of(file.path, reading), file.sha256) for file in files)
    times = WeightsFile.of(_existing(reading.times)).sha256 if reading.times else None
    return FeatureSpec(
        kind=options.kind,
        model=model,
        weights_sha256=canonical_sha256({"files": parts, "times": times}),
        preprocessing={},
        sampling={
            "clock": FRAMES if options.has_frame_rows else "own",
            "fps": reading.fps,
            "clip_column": reading.clip_column or CLIP_COLUMN,
            "time_column": None if reading.fps else reading.time_column or TIME_COLUMN,
        },
        precision="float32",
        epoch=EPOCH,
    )


def _clip_of(path: Path, reading: ReadOptions) -> str:
    """The clip that a file is of; the name of a file that says so itself is not used."""
    return "" if _names_clips(path) else reading.clip or path.stem


def _names_clips(path: Path) -> bool:
    """Whether a file of this suffix names its clips in any case; a table may."""
    return path.suffix.lower() in NAMES_CLIPS


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the clips that the feature set lacks."""

    store: FeatureStore
    spec: FeatureSpec
    clips: Manifest
    digests: SourceDigests
    result: ImportResult
    made_by: JsonObject

    def add(self, clip: Clip, read: Callable[[], Track], file: WeightsFile) -> None:
        """Write a clip unless its record is up to date with the clip's media."""
        assert self.spec.imported
        try:
            source = self.digests.of(self.clips.source(clip), self.spec.imported)
        except MediaError as error:
            self.result.failed.append(f"{clip.id}: {error}")
            return
        state = clip_state(self.store, self.spec.name, clip.id, source, decoder_version(), ())
        if state.state == "complete":
            self.result.present.append(clip.id)
            return
        track = read()
        file.check_unchanged()  # the spec has the sha256 of what was read
        self.store.write(
            self.spec,
            clip.id,
            track,
            source=source,
            provenance={**self.made_by, "imported": {"file": file.path.name}},
        )
        self.result.written.append(clip.id)


def render_import(result: ImportResult) -> Iterator[str]:
    """Yield what a person should know beside the last line."""
    yield from (f"  left out: {each}" for each in result.unknown)
    yield from (f"  failed: {each}" for each in result.failed)
    if result.without:
        yield (
            f"  {len(result.without)} clips of the manifest are not in the files: "
            f"{list_names(result.without)}"
        )
    if result.earlier:
        yield (
            f"  the store has other features of this kind, too: {list_names(result.earlier)}; "
            "`vaflow gc STORE --sets NAME --apply` removes those that are superseded"
        )
