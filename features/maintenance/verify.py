"""Every byte of a store held to what was committed: what is missing, changed, or too many.

Nothing is repaired here; features/repair.py does that with what is found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from features.canonical_json import JsonObject
from features.errors import InputError, LaterVersion, StoreError
from features.store.backend import StoreBackend
from features.store.commit import read_commit
from features.store.feature_store import CLIP_NAME, SET_NAME, FeatureStore, backend_at
from features.store.layout import METADATA, files_in
from features.store.record import digest_in, read_track, wrong_files
from features.system.parallel import map_in_processes

BATCH = 64  # records that a process is given at once
IN_THIS_PROCESS_AT_MOST = 2 * BATCH  # records: to start others takes longer than to read these
LISTED_AT_MOST = 50  # problems that the report for a person names


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was committed."""

    spec: str
    """The feature set, or empty: the store itself."""
    clip: str
    """The clip, or empty: the feature set itself."""
    file: str
    """Path inside the record, the set or the store."""
    what: str

    @property
    def place(self) -> str:
        """Path inside the store."""
        return "/".join(part for part in (self.spec, self.clip, self.file) if part)


@dataclass(frozen=True, slots=True)
class Verified:
    """One record that was read."""

    problems: tuple[Problem, ...]
    n_files: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Verification:
    """A whole store that was read."""

    problems: tuple[Problem, ...]
    n_records: int
    n_files: int
    n_bytes: int

    def as_json(self) -> JsonObject:
        """The findings as `verify --json` prints them."""
        counts = {"records": self.n_records, "files": self.n_files, "bytes": self.n_bytes}
        return {"problems": [asdict(problem) for problem in self.problems], **counts}


def verify(
    path: str | Path, *, on_records: Callable[[int, int], None] | None = None
) -> Verification:
    """What is wrong with the store; `on_records` hears how many records of how many are read.

    `InputError` where there is no store, or one of a later vaflow. Each record is read in full,
    by one process per core.
    """
    store = FeatureStore(backend_at(path))
    problems = list(_of_root(store))
    records: list[tuple[str, str]] = []
    for name in _folders(store.backend, "", SET_NAME.fullmatch, problems):
        problems.extend(_of_set(store, name))
        clips = _folders(store.backend, name, CLIP_NAME.fullmatch, problems)
        records.extend((name, clip) for clip in clips)
    n_read = n_files = n_bytes = 0
    for batch in _verify_in_parallel(str(path), records):
        for found in batch:
            problems.extend(found.problems)
            n_files, n_bytes = n_files + found.n_files, n_bytes + found.n_bytes
        n_read += len(batch)
        if on_records:
            on_records(n_read, len(records))
    return Verification(tuple(problems), len(records), n_files, n_bytes)


def _of_root(store: FeatureStore) -> Iterator[Problem]:
    """What is wrong with the store's own metadata; `InputError` where it is no store at all."""
    if not store.backend.exists():
        raise InputError(f"there is no feature store at {store.backend.path()}")
    try:
        FeatureStore.open(store.backend.path())
    except LaterVersion:
        raise
    except InputError:
        if not any(SET_NAME.fullmatch(entry.name) for entry in store.backend.entries("")):
            raise
        yield Problem("", "", METADATA, "is missing, or not that of a store")
    except StoreError as error:
        yield Problem("", "", METADATA, str(error))


def _of_set(store: FeatureStore, name: str) -> Iterator[Problem]:
    """What is wrong with the metadata of a feature set."""
    try:
        if store.backend.metadata(name) is None:
            yield Problem(name, "", METADATA, "is missing")
        else:
            store.spec(name)
    except (OSError, StoreError, LaterVersion) as error:
        yield Problem(name, "", METADATA, str(error))


def _folders(
    place: StoreBackend, set_name: str, fits: Callable[[str], object], problems: list[Problem]
) -> Iterator[str]:
    """The folders of a store or a set that may be sets or records; what else lies there is told."""
    for entry in place.entries(set_name):
        if entry.kind == "folder" and fits(entry.name):
            yield entry.name
        elif entry.name != METADATA or entry.kind == "link":
            what = "is a link" if entry.kind == "link" else "does not belong here; move it away"
            problems.append(Problem(set_name, "", entry.name, what))


def _verify_in_parallel(store: str, records: Sequence[tuple[str, str]]) -> Iterable[list[Verified]]:
    """Each record read, in batches."""
    batches = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    function = partial(verify_records, store)
    if len(records) <= IN_THIS_PROCESS_AT_MOST:
        return map(function, batches)
    return map_in_processes(function, batches)


def verify_records(store: str, records: Sequence[tuple[str, str]]) -> list[Verified]:
    """Each of these records, by names of set and clip, read in full."""
    place = backend_at(store)
    return [verify_record(place, set_name, clip_id) for set_name, clip_id in records]


def verify_record(place: StoreBackend, set_name: str, clip_id: str) -> Verified:
    """One record read in full; once more where a writer may have put another in its place."""
    name = f"{set_name}/{clip_id}"
    before = _commit_bytes(place, name)
    sizes, wrong = _read_whole(place, name)
    if wrong and _commit_bytes(place, name) != before:
        sizes, wrong = _read_whole(place, name)
    problems = tuple(Problem(set_name, clip_id, file, what) for file, what in wrong.items())
    return Verified(problems, len(sizes), sum(sizes.values()))


def _read_whole(place: StoreBackend, name: str) -> tuple[dict[str, int], dict[str, str]]:
    """The sizes of a record's files, and what is wrong with which."""
    try:
        with place.record(name) as folder:
            sizes = files_in(folder)
            wrong = dict(_wrong_files(folder, sizes))
        # a message may name the folder that the record was downloaded to, which is gone by now
        path = place.path(name)
        return sizes, {file: what.replace(str(folder), path) for file, what in wrong.items()}
    except (OSError, StoreError) as error:
        return {}, {"": str(error)}


def _commit_bytes(place: StoreBackend, name: str) -> bytes | None:
    """What the record's commit says, to see whether it is replaced meanwhile."""
    try:
        return place.metadata(name)
    except (OSError, StoreError):
        return None


def _wrong_files(folder: Path, sizes: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Each file of a record that is not as committed, and what is wrong with it."""
    try:
        commit = read_commit(folder)
    except (StoreError, LaterVersion) as error:
        yield METADATA, str(error)
        return
    if commit is None:
        yield METADATA, "is missing: the folder is no record"
        return
    wrong = list(wrong_files(commit.files, digest_in(folder, sizes)))
    yield from wrong
    for name in sorted(set(sizes) - {METADATA, *commit.files}):
        yield name, "is one too many"
    if not wrong:  # all bytes are as committed: they may still be no track
        try:
            read_track(folder, commit)
        except (StoreError, ValueError, KeyError, OSError) as error:
            yield METADATA, f"commits what is no track: {error}"


def render_verification(found: Verification) -> Iterator[str]:
    """The findings for a person, line by line."""
    for problem in found.problems[:LISTED_AT_MOST]:
        yield f"  {problem.place}: {problem.what}"
    if len(found.problems) > LISTED_AT_MOST:
        yield f"  and {len(found.problems) - LISTED_AT_MOST} more (--json lists all)"
