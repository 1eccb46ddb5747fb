"""The shards of a run in one line: while the last clips of one are encoded, the next is read.

Each is a task of its own to whoever watches, and the line never runs empty between them.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing

from features.allocation import keep_freed_memory
from features.digest_memo import remembering
from features.extraction import Pace, extracting
from features.outcomes import Extraction, Outcome
from features.shards import Run
from features.station import Station


class Procession:
    """A run's shards, of which there are some, extracted by one process one after the other."""

    def __init__(self, run: Run, on_next: Callable[[], bool]) -> None:
        keep_freed_memory()
        asked = run.shards[0].request
        self._shard_of = {
            jobs[0].clip.id: shard.number
            for shard, left in zip(run.shards, run.left, strict=True)
            for jobs in left
        }
        self._n_left = {
            shard.number: sum(map(len, left))
            for shard, left in zip(run.shards, run.left, strict=True)
        }
        self._aside: defaultdict[int, list[Outcome]] = defaultdict(list)
        with ExitStack() as stack:
            station = stack.enter_context(closing(Station(asked.device)))
            memo = stack.enter_context(remembering(run.store.work))
            passing = extracting(
                run.plans,
                [jobs for left in run.left for jobs in left],
                run.store,
                run.tool,
                station,
                memo,
                batch_size=asked.batch_size,
                readers=asked.readers,
                limits=asked.limits,
                on_next=on_next,
            )
            self._passing = stack.enter_context(closing(passing))
            self._open = stack.pop_all()

    def extract(self, number: int, on_outcome: Callable[[Outcome], None]) -> Extraction:
        """How the clips of a shard ended; in order, and the last one tells how fast it went.

        What ends meanwhile of others is put aside for them.
        """
        began = time.monotonic()
        outcomes: list[Outcome] = []
        pace = Pace()

        def settle(outcome: Outcome) -> None:
            outcomes.append(outcome)
            on_outcome(outcome)

        for outcome in self._aside.pop(number, []):
            settle(outcome)
        while self._n_left[number] or not any(self._n_left.values()):
            try:
                outcome = next(self._passing)
            except StopIteration as end:
                pace = end.value or pace
                break
            its_shard = self._shard_of[outcome.clip]
            self._n_left[its_shard] -= 1
            if its_shard == number:
                settle(outcome)
            else:
                self._aside[its_shard].append(outcome)
        return Extraction(tuple(outcomes), time.monotonic() - began, pace.seconds, pace.remarks)

    def close(self) -> None:
        """End what is under way, and let go of the device."""
        self._open.close()
