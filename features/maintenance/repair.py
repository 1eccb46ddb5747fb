"""Moves wrong files out of a store, so that extract-features writes them again.

A wrong file is moved from its record to the work folder, under the lock of the clip. The record
then counts as corrupt and is extracted again; a file that does not belong to the record is only
moved. Nothing is deleted (`vaflow gc` does that), and records that cannot be extracted again stay.
"""

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.maintenance.verify import Problem, Verification, verify_record
from features.spec import FeatureSpec
from features.store.commit import encode_group
from features.store.feature_store import ROOT, FeatureStore
from features.store.layout import METADATA
from features.store.location import backend_at
from features.store.work_folder import removed_folder

WHOLE_RECORD = ("", METADATA)  # with such a problem no file of the record can be trusted


@dataclass(frozen=True, slots=True)
class RepairResult:
    """The result of a repair."""

    repaired: tuple[Problem, ...]
    """Problems whose files are restored, or moved out and extracted in the next run."""
    remaining: tuple[Problem, ...]
    """Problems that these encoders and clips cannot repair."""


def repair(
    path: str | Path,
    verification: Verification,
    specs: Sequence[FeatureSpec],
    clips: Collection[str],
) -> RepairResult:
    """Restore metadata of the store and of these sets, and move out wrong files of these clips."""
    store, problems, repaired = FeatureStore(backend_at(path)), verification.problems, []
    attributes = {"": ROOT} | {spec.name: spec.model_dump(mode="json") for spec in specs}
    for problem in problems:
        if not problem.clip and problem.file == METADATA and problem.spec in attributes:
            group = encode_group(attributes[problem.spec])
            store.backend.put_metadata(problem.spec, group)
            repaired.append(problem)
    for set_name, clip_id in dict.fromkeys((p.spec, p.clip) for p in problems if p.clip):
        if set_name in attributes and clip_id in clips:
            repaired.extend(_move_out(store, set_name, clip_id))
    paths = {problem.path for problem in repaired}
    return RepairResult(tuple(repaired), tuple(p for p in problems if p.path not in paths))


def _move_out(store: FeatureStore, set_name: str, clip_id: str) -> Iterator[Problem]:
    """Move wrong files of a record to the work folder, unless another process writes it."""
    record = store.record_name(set_name, clip_id)
    removed = removed_folder(store.work) / uuid.uuid4().hex
    lock = store.claim(set_name, clip_id)
    if lock is None:
        return
    try:
        for problem in verify_record(store.backend, set_name, clip_id).problems:
            name = record if problem.file in WHOLE_RECORD else f"{record}/{problem.file}"
            store.backend.move_out(name, removed / f"{set_name}.{clip_id}" / problem.file)
            yield problem
    finally:
        lock.release()
