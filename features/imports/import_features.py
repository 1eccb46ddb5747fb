"""Import of features that were made elsewhere: files of rows become a feature set of a store.

The spec of the set says what the features are: their kind and version, width, columns and clock.
The files are not part of it, so that a set grows by later imports; the sha256 of the rows of a clip
is in the source of its record.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from features.canonical_json import JsonObject, canonical_sha256, differences
from features.clip import Clip, Track
from features.errors import InputError, MediaError, list_names
from features.freshness.clip_state import IMPORTED_ROWS, clip_state
from features.freshness.digest_cache import open_cache
from features.freshness.media_digests import SourceDigests
from features.imports.files import read_clips
from features.imports.options import ImportOptions
from features.imports.rows import ClipRows, rows_digest
from features.manifest.manifest import Manifest, read_manifest
from features.media.decoder_version import decoder_version
from features.spec import FRAMES, FeatureSpec
from features.store.feature_store import FeatureStore
from features.system.provenance import provenance

EPOCH = 1  # of the code that reads files, see FeatureSpec.epoch
VERSION = "version"  # of what made the features; specs of before had a sha256 of all files instead


@dataclass
class ImportResult:
    """What became of each clip."""

    feature_set: str
    width: int
    written: list[str] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    """Clips among these that had a record, and why it was replaced."""
    present: list[str] = field(default_factory=list)
    """Clips whose record the store has already."""
    unknown: list[str] = field(default_factory=list)
    """What was left out: clips that the manifest lacks, and where they are."""
    failed: list[str] = field(default_factory=list)
    """Clips whose media cannot be read, and why."""
    without: tuple[str, ...] = ()
    """Clips of the manifest that neither the files nor the feature set have."""
    n_rows: int = 0
    """Rows of all clips that were read."""
    others: dict[str, str] = field(default_factory=dict)
    """Other feature sets of this kind, and how they differ."""


def import_features(
    options: ImportOptions,
    store: str,
    manifest: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportResult:
    """Write the rows of some files as clips of a feature set, beside those that it has.

    All of them are checked before anything is written. Each clip is then a record that appears
    whole or not at all, by the one writer of the store; a clip whose record has these rows is left
    alone, one that had others is replaced. `on_progress` is called with the clips that are done and
    their number. Raises `InputError` that names file, clip, row and value if a rule is broken, or
    if the manifest has none of the clips.
    """
    clips = read_manifest(manifest)
    opened = FeatureStore.open_or_plan(store)
    known = {clip.id: clip for clip in clips.clips}
    checked = _check_all(options, known, manifest)
    spec = _spec(options, checked)
    result = ImportResult(spec.name, checked.width, unknown=checked.unknown)
    result.n_rows = sum(checked.n_rows.values())
    opened.create()
    opened.restore_spec(spec)
    present = {*opened.clip_ids(spec.name)}
    result.without = tuple(clip for clip in known if clip not in {*checked.n_rows, *present})
    result.others = dict(_other_sets(opened, spec))
    with open_cache(opened.work) as cache, closing(SourceDigests(cache)) as digests:
        writer = _Writer(opened, spec, clips, digests, checked.digests, result, provenance())
        n_done = 0
        for path in options.files:
            for rows in read_clips(path, options.reading):
                if rows.clip in known:
                    writer.add(known[rows.clip], rows.track, path)
                    n_done += 1
                    if on_progress:
                        on_progress(n_done, len(checked.n_rows))
    return result


@dataclass
class _Checked:
    """What is known of files whose rows keep the rules."""

    n_rows: dict[str, int] = field(default_factory=dict)
    """By clip that the manifest has."""
    digests: dict[str, str] = field(default_factory=dict)
    """Of the rows of these clips."""
    unknown: list[str] = field(default_factory=list)
    width: int = 0
    columns: tuple[str, ...] | None = None


def _check_all(options: ImportOptions, known: dict[str, Clip], manifest: Path) -> _Checked:
    """Check every row of every file; raises `InputError`."""
    checked, places = _Checked(), dict[str, str]()
    for path in options.files:
        for rows in read_clips(path, options.reading):
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
                checked.digests[rows.clip] = rows_digest(track)
            else:
                near = get_close_matches(rows.clip, known, n=1, cutoff=0.6)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                checked.unknown.append(f"{rows.where}: {manifest} has no such clip{meant}")
    if not checked.n_rows:
        raise InputError(
            f"{manifest} has none of the clips of {', '.join(map(str, options.files))}: "
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


def _spec(options: ImportOptions, checked: _Checked) -> FeatureSpec:
    made_by: JsonObject = {"name": options.kind, VERSION: options.version}
    model: JsonObject = {**made_by, "imported": options.modality, "width": checked.width}
    if checked.columns:
        model["columns"] = list(checked.columns)
    return FeatureSpec(
        kind=options.kind,
        model=model,
        weights_sha256=canonical_sha256(made_by),
        preprocessing={},
        sampling={"clock": FRAMES if options.has_frame_rows else "own"},
        precision="float32",
        epoch=EPOCH,
    )


def _other_sets(store: FeatureStore, spec: FeatureSpec) -> Iterator[tuple[str, str]]:
    """Yield the other feature sets of this kind, and how they differ."""
    for name in store.sets_beside(spec):
        other = store.spec(name)
        if VERSION not in other.model:
            yield (
                name,
                "made by an earlier vaflow, in which each import was a set; heads on it still read "
                f"it, and its files can be imported again into {spec.name}",
            )
            continue
        found = differences("", other.model_dump(mode="json"), spec.model_dump(mode="json"))
        changes = [f"{d.field.lstrip('.')} is {d.old}, here {d.new}" for d in found]
        yield name, "; ".join(each for each in changes if "weights_sha256" not in each)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the clips that the feature set lacks, or has with other rows."""

    store: FeatureStore
    spec: FeatureSpec
    clips: Manifest
    digests: SourceDigests
    rows: dict[str, str]
    """The digest of the rows of each clip when they were checked."""
    result: ImportResult
    made_by: JsonObject

    def add(self, clip: Clip, read: Callable[[], Track], path: Path) -> None:
        """Write a clip unless its record has these rows, and is up to date with its media."""
        assert self.spec.imported
        try:
            source = self.digests.of(self.clips.source(clip), self.spec.imported)
        except MediaError as error:
            self.result.failed.append(f"{clip.id}: {error}")
            return
        source |= {IMPORTED_ROWS: self.rows[clip.id]}
        state = clip_state(self.store, self.spec.name, clip.id, source, decoder_version(), ())
        if state.state == "complete":
            self.result.present.append(clip.id)
            return
        track = read()
        if rows_digest(track) != self.rows[clip.id]:
            raise InputError(f"{path} changed while it was imported; run the same again")
        self.store.write(
            self.spec,
            clip.id,
            track,
            source=source,
            provenance={**self.made_by, "imported": {"file": path.name}},
        )
        self.result.written.append(clip.id)
        if state.state != "missing":
            self.result.replaced[clip.id] = state.reason


def render_import(result: ImportResult) -> Iterator[str]:
    """Yield what a person should know beside the last line."""
    yield from (f"  left out: {each}" for each in result.unknown)
    yield from (f"  failed: {each}" for each in result.failed)
    for clip, why in result.replaced.items():
        yield f"  replaced: {clip}: {why}"
    if result.without:
        yield (
            f"  {len(result.without)} clips of the manifest have no such features yet: "
            f"{list_names(result.without)}; import their file, too, with the same options"
        )
    for name, how in result.others.items():
        yield f"  the store has other features of this kind, too: {name} ({how})"
    if result.others:
        yield "  `vaflow gc STORE --sets NAME --apply` removes a set that is superseded"
