"""Compares every byte of a store with its commits; changes nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from features.canonical_json import JsonObject
from features.errors import InputError, LaterVersion, StoreError
from features.store.backend import StoreBackend
from features.store.commit import read_commit
from features.store.feature_store import CLIP_NAME, SET_NAME, FeatureStore
from features.store.layout import METADATA, files_in
from features.store.location import backend_at
from features.store.record import read_track, wrong_files
from features.system.parallel import map_in_processes

BATCH = 64  # records that are sent to a process at once
IN_THIS_PROCESS_AT_MOST = 2 * BATCH  # records: reading them is faster than starting processes
LISTED_AT_MOST = 50  # problems that the report for a person names


@dataclass(frozen=True, slots=True)
class Problem:
    """One file or folder that is not as it was committed."""

    spec: str
    """Name of the feature set; empty for a problem of the store."""
    clip: str
    """Id of the clip; empty for a problem of the feature set."""
    file: str
    """Path inside the record, the feature set or the store."""
    what: str

    @property
    def path(self) -> str:
        """Path inside the store."""
        return "/".join(part for part in (self.spec, self.clip, self.file) if part)


@dataclass(frozen=True, slots=True)
class Verification:
    """The verification of some records, or of a store; a monoid under `+`."""

    problems: tuple[Problem, ...] = ()
    n_records: int = 0
    n_files: int = 0
    n_bytes: int = 0

    def __add__(self, other: "Verification") -> "Verification":
        return Verification(
            self.problems + other.problems,
            self.n_records + other.n_records,
            self.n_files + other.n_files,
            self.n_bytes + other.n_bytes,
        )

    def as_json(self) -> JsonObject:
        """Return the verification as `verify --json` prints it."""
        counts = {"records": self.n_records, "files": self.n_files, "bytes": self.n_bytes}
        return {"problems": [asdict(problem) for problem in self.problems], **counts}


def verify(
    path: str | Path, *, on_progress: Callable[[int, int], None] | None = None
) -> Verification:
    """Read every record of the store in full, by one process per core, and return what is wrong.

    `on_progress` is called with the number of records that were read and of all records. Raises
    `InputError` if there is no store, `LaterVersion` if a later vaflow wrote it.
    """
    store = FeatureStore(backend_at(path))
    problems = list(_problems_of_store(store))
    records: list[tuple[str, str]] = []
    for name in _folders(store.backend, "", SET_NAME.fullmatch, problems):
        problems.extend(_problems_of_set(store, name))
        clips = _folders(store.backend, name, CLIP_NAME.fullmatch, problems)
        records.extend((name, clip) for clip in clips)
    verification = Verification(tuple(problems))
    batches = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    map_batches = map if len(records) <= IN_THIS_PROCESS_AT_MOST else map_in_processes
    for batch in map_batches(partial(_verify_records, str(path)), batches):
        verification += batch
        if on_progress:
            on_progress(verification.n_records, len(records))
    return verification


def _problems_of_store(store: FeatureStore) -> Iterator[Problem]:
    """Yield what is wrong with the store's metadata; raise `InputError` if it is no store."""
    try:
        FeatureStore.open(store.backend.path())
    except LaterVersion:
        raise
    except InputError:
        if not any(SET_NAME.fullmatch(entry.name) for entry in store.backend.entries("")):
            raise
        yield Problem("", "", METADATA, "is missing, or not the metadata of a store")
    except StoreError as error:
        yield Problem("", "", METADATA, str(error))


def _problems_of_set(store: FeatureStore, name: str) -> Iterator[Problem]:
    try:
        if store.backend.metadata(name) is None:
            yield Problem(name, "", METADATA, "is missing")
        else:
            store.spec(name)
    except (OSError, StoreError, LaterVersion) as error:
        yield Problem(name, "", METADATA, str(error))


def _folders(
    backend: StoreBackend,
    set_name: str,
    is_valid_name: Callable[[str], object],
    problems: list[Problem],
) -> Iterator[str]:
    """Yield the folders in a store or a feature set; append to `problems` what does not belong."""
    for entry in backend.entries(set_name):
        if entry.kind == "folder" and is_valid_name(entry.name):
            yield entry.name
        elif entry.name != METADATA or entry.kind == "link":
            what = "is a link" if entry.kind == "link" else "does not belong here; move it away"
            problems.append(Problem(set_name, "", entry.name, what))


def _verify_records(store: str, records: Sequence[tuple[str, str]]) -> Verification:
    backend = backend_at(store)
    return sum((verify_record(backend, *names) for names in records), Verification())


def verify_record(backend: StoreBackend, set_name: str, clip_id: str) -> Verification:
    """Read a record in full; read it again if it is wrong: a writer may have replaced it."""
    name = f"{set_name}/{clip_id}"
    sizes, wrong = _read_in_full(backend, name)
    if wrong:
        sizes, wrong = _read_in_full(backend, name)
    problems = tuple(Problem(set_name, clip_id, file, what) for file, what in wrong.items())
    return Verification(problems, 1, len(sizes), sum(sizes.values()))


def _read_in_full(backend: StoreBackend, name: str) -> tuple[dict[str, int], dict[str, str]]:
    """Return the sizes of a record's files, and what is wrong with each wrong file."""
    try:
        with backend.record(name) as folder:
            sizes = files_in(folder)
            wrong = dict(_wrong_files(folder, sizes))
        # a message may name the temporary folder that the record was downloaded to
        path = backend.path(name)
        return sizes, {file: what.replace(str(folder), path) for file, what in wrong.items()}
    except (OSError, StoreError) as error:
        return {}, {"": str(error)}


def _wrong_files(folder: Path, sizes: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield each file of a record that is not as committed, and what is wrong with it."""
    try:
        commit = read_commit(folder)
    except (StoreError, LaterVersion) as error:
        yield METADATA, str(error)
        return
    if commit is None:
        yield METADATA, "is missing: the folder is no record"
        return
    wrong = list(wrong_files(commit.files, folder, sizes))
    yield from wrong
    for name in sorted(set(sizes) - {METADATA, *commit.files}):
        yield name, "does not belong to the record"
    if not wrong:  # bytes as committed may still not be a valid track
        try:
            read_track(folder, commit)
        except (StoreError, ValueError, KeyError, OSError) as error:
            yield METADATA, f"commits files that are not a valid track: {error}"


def render_verification(verification: Verification) -> Iterator[str]:
    """Yield the lines of the problems for a person."""
    for problem in verification.problems[:LISTED_AT_MOST]:
        yield f"  {problem.path}: {problem.what}"
    if len(verification.problems) > LISTED_AT_MOST:
        yield f"  and {len(verification.problems) - LISTED_AT_MOST} more (--json lists all)"
