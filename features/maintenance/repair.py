"""What `verify` found is put out of the way, so that extract-features makes it again.

A wrong file is moved out of its record into the work folder, under the record's lock: the record
then counts as corrupt, and is extracted again for that reason; one file too many is no loss.
Nothing is deleted (`vaflow gc` does that), and what cannot be made again is left as it is.
"""

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.maintenance.verify import Problem, Verification, verify_record
from features.spec import FeatureSpec
from features.store.commit import encode_group
from features.store.feature_store import ROOT, FeatureStore, backend_at
from features.store.layout import METADATA
from features.store.work_folder import removed_folder

WHOLE_SET = ("", METADATA)  # files without which a record has nothing that could be trusted


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What was put out of the way."""

    cleared: tuple[Problem, ...]
    """What is extracted again, or is gone."""
    left: tuple[Problem, ...]
    """What a repair with these encoders and clips cannot make again."""


def repair(
    path: str | Path, found: Verification, specs: Sequence[FeatureSpec], clips: Collection[str]
) -> RepairResult:
    """Make room for what these encoders will extract of these clips."""
    store, by_name = FeatureStore(backend_at(path)), {spec.name: spec for spec in specs}
    cleared: list[Problem] = []
    for problem in found.problems:
        if problem.clip or problem.file != METADATA:
            continue
        if not problem.spec:
            cleared.append(_written(store, encode_group(ROOT), problem))
        elif problem.spec in by_name:
            spec = encode_group(by_name[problem.spec].model_dump(mode="json"))
            cleared.append(_written(store, spec, problem))
    for set_name, clip_id in dict.fromkeys((p.spec, p.clip) for p in found.problems if p.clip):
        if set_name in by_name and clip_id in clips:
            cleared.extend(_move_out(store, set_name, clip_id))
    again = {(p.spec, p.clip, p.file) for p in cleared}
    left = [p for p in found.problems if (p.spec, p.clip, p.file) not in again]
    return RepairResult(tuple(cleared), tuple(left))


def _written(store: FeatureStore, metadata: bytes, problem: Problem) -> Problem:
    """Put a group's one right metadata in the place of what is there."""
    store.backend.put_metadata(problem.spec, metadata)
    return problem


def _move_out(store: FeatureStore, set_name: str, clip_id: str) -> Iterator[Problem]:
    """Move what is wrong with a record to the work folder, if it still is under the lock."""
    record = store.record_name(set_name, clip_id)
    removed = removed_folder(store.work) / uuid.uuid4().hex
    held = store.claim(set_name, clip_id)
    if held is None:
        return  # somebody is writing it this moment
    try:
        for problem in verify_record(store.backend, set_name, clip_id).problems:
            name = record if problem.file in WHOLE_SET else f"{record}/{problem.file}"
            store.backend.move_out(name, removed / f"{set_name}.{clip_id}" / problem.file)
            yield problem
    finally:
        held.release()
