"""Stage one: what the store lacks of a manifest is decoded, encoded and stored.

Several processes may be at the same store: each claims a clip before decoding it, passes over
those that others have claimed, and looks at them again in the end. A clip that cannot be decoded
is an `Outcome`; the others go on.
"""

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.claims import Turn
from features.devices import DeviceName, torch_device
from features.digest_memo import remembering
from features.durable import Claim
from features.encoders import AnyEncoderConfig
from features.encoders.base import Encoder
from features.encoding import Encoded, Failed, encode_all
from features.errors import MediaError
from features.limits import GENEROUS, DecodeLimits
from features.manifest import read_manifest
from features.outcomes import Extraction, Outcome
from features.planning import Job, Plan, plan
from features.provenance import provenance
from features.quarantine import PASSING, Extractor, extractor, put_in_quarantine, release
from features.records import JsonObject
from features.sources import SourceDigests
from features.store import FeatureStore
from features.throughput import Throughput, add_throughput, of_track

Count = Annotated[int, Field(ge=1)]

LOOK_AGAIN_S = 0.1  # at clips that others have claimed: the holder may have died

log = logging.getLogger(__name__)


def extract_features(
    manifest: Path,
    store: str,
    encoders: Sequence[AnyEncoderConfig],
    *,
    device: DeviceName = "auto",
    batch_size: Count = 64,
    readers: Count = 2,
    limits: DecodeLimits = GENEROUS,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
) -> Extraction:
    """Bring the store up to the manifest; `on_outcome` hears of each clip, with the total."""
    began = time.monotonic()
    clips = read_manifest(manifest)
    specs = [config.spec() for config in encoders]
    place = torch_device(device)
    target = FeatureStore.at(store)
    tool = extractor(limits)
    outcomes: list[Outcome] = []

    def settle(outcome: Outcome) -> None:
        outcomes.append(outcome)
        why = outcome.reason if outcome.state == "extracted" else outcome.detail
        if outcome.state != "present":
            log.info("%s (%s): %s: %s", outcome.clip, outcome.feature_set, outcome.state, why)
        if on_outcome:
            on_outcome(outcome, len(clips.clips) * len(encoders))

    for spec in specs:
        target.mend(spec)
    plans: list[Plan] = []
    with remembering(target.work) as memo:
        for config, spec in zip(encoders, specs, strict=True):
            plans.append(plan(clips, config, spec, target, SourceDigests(memo), tool, force=force))
            for outcome in plans[-1].settled:
                settle(outcome)
    # all networks before the first clip: weights that do not fit should not show hours later
    built = [(each.config.build(place), each) for each in plans if each.jobs]
    if built:
        target.found()
    with remembering(target.work) as later:
        later.take_over(memo)  # a new store had no place for it
        for encoder, each in built:
            made_by = {
                **provenance(),
                "encoder": each.config.model_dump(mode="json"),
                "device": str(place),
                "batch_size": batch_size,
            }
            line = Line(encoder, target, SourceDigests(later), tool, limits, made_by)
            with closing(line.run(each.jobs, batch_size, readers)) as ends:
                for outcome in ends:
                    settle(outcome)
    return Extraction(tuple(outcomes), time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class Line:
    """From the clips that a feature set lacks to their records."""

    encoder: Encoder
    store: FeatureStore
    digests: SourceDigests
    tool: Extractor
    """What decodes."""
    limits: DecodeLimits
    made_by: JsonObject

    def run(
        self, jobs: Sequence[Job], batch_size: int, readers: int
    ) -> Generator[Outcome, None, None]:
        """Each clip as it ends; those that other processes work on come last."""
        left = list(jobs)
        while left:
            turn = Turn(self.store, self.encoder.spec.name, left, self.tool)
            with closing(self._run(turn, batch_size, min(readers, len(left)))) as ends:
                yield from ends
            if len(turn.left) == len(left):
                time.sleep(LOOK_AGAIN_S)
            elif turn.left:
                log.info("%d clips are left, which other processes work on", len(turn.left))
            left = turn.left

    def _run(self, turn: Turn, batch_size: int, readers: int) -> Generator[Outcome, None, None]:
        """One pass over the clips that nobody has claimed."""
        done, began = Throughput(), time.monotonic()
        free = turn.sources()
        first = list(islice(free, 1))
        if not first:  # no reader is started to find that
            yield from turn.settled
            return
        sources = chain(first, free)
        results = encode_all(
            self.encoder,
            sources,
            batch_size=batch_size,
            readers=readers,
            limits=self.limits,
        )
        with closing(turn), closing(results):
            for result in results:
                job = turn.begun[result.index]
                if isinstance(result, Failed):
                    yield self._refuse(job, result)
                else:
                    yield self._keep(job, result, turn.held[result.index])
                    done += of_track(result.track)
                turn.release(result.index)
            yield from turn.settled
        if done.rows:
            done += Throughput(seconds=time.monotonic() - began)
            name, device = self.encoder.spec.name, str(self.made_by["device"])
            add_throughput(self.store.work, name, device, done)

    def _keep(self, job: Job, result: Encoded, held: Claim) -> Outcome:
        """Store a clip that came through."""
        spec, clip_id = self.encoder.spec, job.source.clip_id
        try:
            now = self.digests.of(job.source, self.encoder.modality)
        except MediaError as error:
            return Outcome(clip_id, spec.name, "failed", str(error), reason=job.reason)
        if now != job.source_digest:
            why = "its media changed while it was read; run the same again"
            return Outcome(clip_id, spec.name, "failed", why, reason=job.reason)
        self.store.write(
            spec,
            clip_id,
            result.track,
            source=job.source_digest,
            provenance={**self.made_by, "reason": job.reason},
            note=result.note,
            held=held,
        )
        release(self.store.work, spec.name, clip_id)
        n_rows = len(result.track.time_s)
        return Outcome(clip_id, spec.name, "extracted", "", result.note, n_rows, job.reason)

    def _refuse(self, job: Job, result: Failed) -> Outcome:
        """Remember a clip that cannot be decoded, unless it may come through as it is."""
        name, clip_id = self.encoder.spec.name, job.source.clip_id
        if result.code in PASSING or job.found.state == "complete":
            return Outcome(clip_id, name, "failed", result.why, reason=job.reason)
        put_in_quarantine(
            self.store.work,
            name,
            clip_id,
            code=result.code,
            words=result.why,
            source=job.source_digest,
            extractor=self.tool,
        )
        return Outcome(clip_id, name, "quarantined", result.why, reason=job.reason)
