"""Claims: a process takes a lock on a clip, per feature set, before decoding it."""

from collections.abc import Callable, Iterator, Sequence

from features.extraction.outcome import Outcome
from features.extraction.plan import ClipJobs, ExtractionJob, final_outcome
from features.extraction.prefetch import ReadTask
from features.freshness.clip_state import clip_state
from features.media.decoder_version import DecoderVersion
from features.store.feature_store import FeatureStore
from features.system.locks import HeldLock

MAX_CLAIMS = 256  # each keeps a file open, and the usual limit of a process is 1024


class ClaimingPass:
    """One pass over clips, which claims each clip that no other process has claimed.

    A pass never waits for a lock, so two processes cannot wait for each other: a clip that waits
    for its batch is already claimed.
    """

    def __init__(
        self,
        store: FeatureStore,
        clips: Sequence[ClipJobs],
        decoder: DecoderVersion,
        should_continue: Callable[[], bool],
    ) -> None:
        self.started: dict[tuple[int, str], ExtractionJob] = {}
        """The claimed jobs, by index of the task and feature set."""
        self.locks: dict[tuple[int, str], HeldLock] = {}
        """The locks of those that are not finished."""
        self.remaining: list[ClipJobs] = []
        """The jobs for the next pass."""
        self.done_elsewhere: list[Outcome] = []
        """The outcomes of clips that other processes have finished since the plan was made."""
        self._store, self._clips, self._decoder = store, clips, decoder
        self._should_continue = should_continue

    def tasks(self) -> Iterator[ReadTask]:
        """Yield each clip with the feature sets that it is claimed for; claims it when asked.

        Ends early when `should_continue` returns False.
        """
        index = 0
        for jobs in self._clips:
            if not self._should_continue():
                return
            remaining: list[ExtractionJob] = []
            wanted: list[str] = []
            for job in jobs:
                lock = self._claim(job, remaining)
                if lock:
                    self.locks[index, job.feature_set] = lock
                    self.started[index, job.feature_set] = job
                    wanted.append(job.feature_set)
            if remaining:
                self.remaining.append(tuple(remaining))
            if wanted:
                yield ReadTask(index, jobs[0].source, tuple(wanted))
                index += 1

    def release(self, index: int, feature_set: str) -> None:
        """Release the claim on a finished job."""
        self.locks.pop((index, feature_set)).release()

    def close(self) -> None:
        """Release the claims on all unfinished jobs."""
        for index, feature_set in list(self.locks):
            self.release(index, feature_set)

    def _claim(self, job: ExtractionJob, remaining: list[ExtractionJob]) -> HeldLock | None:
        """The lock of a job to do now; None if it is done elsewhere or added to `remaining`."""
        set_name, clip_id = job.feature_set, job.clip.id
        lock = None
        if len(self.locks) < MAX_CLAIMS:
            lock = self._store.claim(set_name, clip_id)
        if lock is None:
            remaining.append(job)
            return None
        state = clip_state(self._store, set_name, clip_id, job.source_digest, self._decoder)
        is_as_planned = (state.commit, state.quarantine) == (job.state.commit, job.state.quarantine)
        outcome = None if is_as_planned else final_outcome(state, set_name, clip_id)
        if outcome:
            self.done_elsewhere.append(outcome)
            lock.release()
            return None
        return lock
