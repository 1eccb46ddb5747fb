"""Which process works on which clip: each is claimed before it is decoded."""

from collections.abc import Iterator, Sequence

from features.durable import Claim
from features.outcomes import Outcome
from features.planning import Job, find, settled
from features.quarantine import Extractor
from features.records import Source
from features.store import FeatureStore

CLAIMS_AT_MOST = 256  # each holds a file open, and 1024 is what a process usually may


class Turn:
    """One pass over clips: those that nobody else works on are claimed as they are begun.

    Nobody waits within a pass, so that two processes cannot wait for each other: a clip that
    waits for its batch is claimed already.
    """

    def __init__(
        self, store: FeatureStore, set_name: str, jobs: Sequence[Job], tool: Extractor
    ) -> None:
        self.begun: list[Job] = []
        """What was handed out, in this order."""
        self.held: dict[int, Claim] = {}
        """The claims on these, by their place."""
        self.left: list[Job] = []
        """For the next pass."""
        self.settled: list[Outcome] = []
        """What others did since it was planned."""
        self._store, self._set_name, self._jobs, self._tool = store, set_name, jobs, tool

    def sources(self) -> Iterator[Source]:
        """The media of each clip, claimed as it is handed out."""
        for job in self._jobs:
            if self._claimed(job):
                yield job.source

    def release(self, place: int) -> None:
        """Let others have a clip that is done."""
        self.held.pop(place).release()

    def close(self) -> None:
        """Let others have what is not done."""
        for place in list(self.held):
            self.release(place)

    def _claimed(self, job: Job) -> bool:
        """Whether the clip is to be done here and now."""
        clip_id = job.source.clip_id
        claim = None
        if len(self.held) < CLAIMS_AT_MOST:
            claim = self._store.claim(self._set_name, clip_id)
        if claim is None:
            self.left.append(job)
            return False
        now = find(self._store, self._set_name, clip_id, job.source_digest, self._tool)
        outcome = settled(now, self._set_name, clip_id) if now != job.found else None
        if outcome:
            self.settled.append(outcome)
            claim.release()
            return False
        self.held[len(self.begun)] = claim
        self.begun.append(job)
        return True
