"""A store compared with a dictionary after any sequence of operations (Hypothesis).

A record that was corrupted may be refused, and is never read as something else.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from features.errors import StoreError
from features.maintenance.garbage import find_garbage, remove_garbage
from features.maintenance.repair import repair
from features.maintenance.verify import verify
from features.store.feature_store import FeatureStore
from tests.helpers.small_stores import SPEC, make_track, same, state_of

CLIPS = st.sampled_from(["a", "b", "c"])
SEEDS = st.integers(0, 3)


class Killed(BaseException):
    """Raised where the process would be killed."""


@contextmanager
def killed_at(step: str, record: Path) -> Iterator[None]:
    """Context manager: publishing the record is killed at a step, and nothing is cleaned up."""
    real, is_dead = os.rename, False

    def rename(source: Path, target: Path) -> None:
        nonlocal is_dead
        is_last = Path(target) == record
        is_dead = is_dead or step == "staged" or (step == "away" and is_last)
        if not is_dead:
            real(source, target)
            is_dead = step == "in" and is_last
        if is_dead:
            raise Killed

    def rmtree(path: Path, **_: bool) -> None:
        assert is_dead, path

    with patch.object(os, "rename", rename), patch.object(shutil, "rmtree", rmtree):
        yield


def source_of(seed: int) -> dict[str, str]:
    return {"video": f"{seed}" * 64}


class StoreAgainstDictionary(RuleBasedStateMachine):
    """`seeds` has the track of each clip, `corrupted` the records that were changed since."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FeatureStore.open(self.folder / "0.zarr", create=True)
        self.n_moves = 0
        self.seeds: dict[str, int] = {}
        self.corrupted: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def record(self, clip: str) -> Path:
        return self.store.path / SPEC.name / clip

    @rule(clip=CLIPS, seed=SEEDS)
    def put(self, clip: str, seed: int) -> None:
        self.store.write(SPEC, clip, make_track(seed=seed), source=source_of(seed), provenance={})
        self.seeds[clip] = seed
        self.corrupted.discard(clip)

    @rule(clip=CLIPS, seed=SEEDS, step=st.sampled_from(["staged", "away", "in"]))
    def crash(self, clip: str, seed: int, step: str) -> None:
        """Kill a writer after staging, after moving the old record out, or after publishing."""
        was_there = os.path.lexists(self.record(clip))
        with killed_at(step, self.record(clip)), pytest.raises(Killed):
            self.store.write(
                SPEC, clip, make_track(seed=seed), source=source_of(seed), provenance={}
            )
        if step == "in":
            self.seeds[clip] = seed
            self.corrupted.discard(clip)
        elif step == "away" and was_there:
            self.seeds.pop(clip, None)
            self.corrupted.discard(clip)

    @rule()
    def gc(self) -> None:
        remove_garbage(self.store, find_garbage(self.store))
        assert find_garbage(self.store) == []

    @rule(clip=CLIPS)
    def gc_but_for(self, clip: str) -> None:
        remove_garbage(self.store, find_garbage(self.store, clips=[clip]))
        self.seeds = {c: seed for c, seed in self.seeds.items() if c == clip}
        self.corrupted &= {clip}

    @rule()
    def move(self) -> None:
        self.n_moves += 1
        new = self.folder / f"{self.n_moves}.zarr"
        work = self.store.work
        self.store.path.rename(new)
        self.store = FeatureStore.open(new)
        if work.exists():
            work.rename(self.store.work)

    @rule(clip=CLIPS, data=st.data())
    def corrupt(self, clip: str, data: st.DataObject) -> None:
        among = sorted(p for p in self.record(clip).rglob("*") if p.is_file())
        if clip not in self.seeds or not among:
            return
        path = data.draw(st.sampled_from(among), label="file")
        content = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content)), label="bit; the last: it is removed")
        if bit == 8 * len(content):
            path.unlink()
        else:
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bytes(content))
        self.corrupted.add(clip) if self._is_corrupted(clip) else self.corrupted.discard(clip)

    def _is_corrupted(self, clip: str) -> bool:
        """Whether it is; the same bit may have been flipped back."""
        return any(p.clip == clip for p in verify(self.store.path).problems)

    @rule()
    def repair(self) -> None:
        repair(self.store.path, verify(self.store.path), [SPEC], ["a", "b", "c"])
        assert verify(self.store.path).problems == () or self.corrupted
        for clip in self.corrupted & self.seeds.keys():
            self.put(clip, self.seeds[clip])

    @rule(clip=CLIPS)
    def read(self, clip: str) -> None:
        if clip not in self.seeds or clip in self.corrupted:
            with pytest.raises(StoreError):
                self.store.read(SPEC.name, clip)
        else:
            assert same(self.store.read(SPEC.name, clip), make_track(seed=self.seeds[clip]))

    @invariant()
    def states_are_those_of_the_dictionary(self) -> None:
        for clip in ("a", "b", "c"):
            state, _ = state_of(self.store, clip, source_of(self.seeds.get(clip, 0)))
            if clip not in self.seeds:
                assert state == "missing"
            elif clip not in self.corrupted:
                assert state == "complete"
                other = source_of(self.seeds[clip] + 1)
                assert state_of(self.store, clip, other)[0] == "stale"

    @invariant()
    def verify_names_the_corrupted_records_only(self) -> None:
        assert {p.clip for p in verify(self.store.path).problems} == self.corrupted


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        StoreAgainstDictionary,
        settings=settings(max_examples=examples, stateful_step_count=steps, database=None),
    )


def test_a_store_behaves_like_a_dictionary():
    run(12, 12)


@pytest.mark.torture
def test_a_store_behaves_like_a_dictionary_in_long_runs():
    run(300, 50)
