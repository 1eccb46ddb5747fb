"""Which process works on which clip: each is claimed, per feature set, before it is decoded."""

from collections.abc import Callable, Iterator, Sequence

from features.extraction.outcome import Outcome
from features.extraction.plan import ClipJobs, ExtractionJob, final_outcome
from features.extraction.prefetch import ReadTask
from features.freshness.clip_state import clip_state
from features.media.decoder_version import DecoderVersion
from features.store.feature_store import FeatureStore
from features.system.locks import HeldLock

MAX_CLAIMS = 256  # each holds a file open, and 1024 is what a process usually may


class ClaimingPass:
    """One pass over clips: those that nobody else works on are claimed as they are begun.

    Nobody waits within a pass, so that two processes cannot wait for each other: a clip that
    waits for its batch is claimed already.
    """

    def __init__(
        self,
        store: FeatureStore,
        clips: Sequence[ClipJobs],
        tool: DecoderVersion,
        on_next: Callable[[], bool],
    ) -> None:
        self.begun: dict[tuple[int, str], ExtractionJob] = {}
        """What was handed out, by place in the line and feature set."""
        self.held: dict[tuple[int, str], HeldLock] = {}
        """The claims on these, until they are done."""
        self.left: list[ClipJobs] = []
        """For the next pass."""
        self.settled: list[Outcome] = []
        """What others did since it was planned."""
        self._store, self._clips, self._tool, self._on_next = store, clips, tool, on_next

    def tasks(self) -> Iterator[ReadTask]:
        """Each clip with the feature sets that it is claimed for, as it is handed out.

        It ends early where no further clip is to be begun.
        """
        index = 0
        for jobs in self._clips:
            if not self._on_next():
                return
            left: list[ExtractionJob] = []
            wanted: list[str] = []
            for job in jobs:
                claim = self._claim(job, left)
                if claim:
                    self.held[index, job.feature_set] = claim
                    self.begun[index, job.feature_set] = job
                    wanted.append(job.feature_set)
            if left:
                self.left.append(tuple(left))
            if wanted:
                yield ReadTask(index, jobs[0].source, tuple(wanted))
                index += 1

    def release(self, index: int, feature_set: str) -> None:
        """Let others have a clip that is done."""
        self.held.pop((index, feature_set)).release()

    def close(self) -> None:
        """Let others have what is not done."""
        for index, feature_set in list(self.held):
            self.release(index, feature_set)

    def _claim(self, job: ExtractionJob, left: list[ExtractionJob]) -> HeldLock | None:
        """The claim on a clip that is to be done here and now; else it goes to its place."""
        set_name, clip_id = job.feature_set, job.clip.id
        claim = None
        if len(self.held) < MAX_CLAIMS:
            claim = self._store.claim(set_name, clip_id)
        if claim is None:
            left.append(job)
            return None
        now = clip_state(self._store, set_name, clip_id, job.source_digest, self._tool)
        outcome = final_outcome(now, set_name, clip_id) if now != job.found else None
        if outcome:
            self.settled.append(outcome)
            claim.release()
            return None
        return claim
