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
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.clip import ClipId
from features.encoders import AnyEncoderConfig
from features.extraction.batching import largest_batch
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.pipeline import ExtractionPipeline
from features.extraction.plan import ClipJobs, SetPlan, jobs_by_clip, plan_all
from features.extraction.runtime import Runtime
from features.freshness.digest_cache import DigestCache, open_cache
from features.freshness.media_digests import SourceDigests
from features.manifest.manifest import Manifest, read_manifest
from features.media.decoder_version import DecoderVersion, decoder_version
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.store.feature_store import FeatureStore
from features.system.devices import DeviceName, advice
from features.system.memory import keep_freed_memory
from features.system.parallel import n_cores
from features.system.provenance import provenance

Count = Annotated[int, Field(ge=1)]

log = logging.getLogger(__name__)


def extract_features(
    manifest: Path,
    store: str,
    encoders: Sequence[AnyEncoderConfig],
    *,
    device: DeviceName = "auto",
    batch_size: Count | None = None,
    readers: Count | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    only: Sequence[ClipId] = (),
    failed: bool = False,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    on_next: Callable[[], bool] = lambda: True,
) -> ExtractionResult:
    """Bring the store up to the manifest, or to a part of it: `only` these clips, or the `failed`.

    `batch_size` and `readers` are chosen by encoder, device and cores where they are not given.
    `on_outcome` hears of each clip, with the total; `on_next` says whether to begin another.
    """
    with closing(Runtime(device)) as station:
        return extract_clips(
            read_manifest(manifest).select(only),
            store,
            encoders,
            station,
            batch_size=batch_size,
            readers=readers,
            limits=limits,
            failed=failed,
            force=force,
            on_outcome=on_outcome,
            on_next=on_next,
        )


def extract_clips(
    clips: Manifest,
    store: str,
    encoders: Sequence[AnyEncoderConfig],
    station: Runtime,
    *,
    batch_size: int | None = None,
    readers: int | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    failed: bool = False,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    on_next: Callable[[], bool] = lambda: True,
) -> ExtractionResult:
    """As `extract_features`, of clips that are at hand, with encoders that may be loaded."""
    began = time.monotonic()
    keep_freed_memory()
    target, tool = FeatureStore.open_or_plan(store), decoder_version(limits)
    specs = [(config, station.spec(config)) for config in encoders]
    outcomes: list[Outcome] = []

    def settle(outcome: Outcome) -> None:
        outcomes.append(outcome)
        why = outcome.reason if outcome.state == "extracted" else outcome.detail
        if outcome.state != "present":
            fields = {"clip": outcome.clip, "feature_set": outcome.feature_set}
            fields |= {"state": outcome.state, "reason": outcome.reason, "n_rows": outcome.n_rows}
            said = "%s (%s): %s: %s"
            log.info(said, outcome.clip, outcome.feature_set, outcome.state, why, extra=fields)
        if on_outcome:
            on_outcome(outcome, n_all)

    for _, spec in specs:
        target.restore_spec(spec)
    with open_cache(target.work) as memo:
        digests = SourceDigests(memo)
        plans = plan_all(clips, specs, target, digests, tool, force=force, failed=failed)
    n_all = sum(len(each.jobs) + len(each.settled) for each in plans)
    for each in plans:
        for outcome in each.settled:
            settle(outcome)
    passing = extracting(
        plans,
        jobs_by_clip(plans),
        target,
        tool,
        station,
        memo,
        batch_size=batch_size,
        readers=readers,
        limits=limits,
        on_next=on_next,
    )
    with closing(passing):
        while True:
            try:
                settle(next(passing))
            except StopIteration as end:
                pace: Pace = end.value
                break
    return ExtractionResult(tuple(outcomes), time.monotonic() - began, pace.seconds, pace.remarks)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a pass over clips was."""

    seconds: float = 0.0
    """From when the networks were there to the last record."""
    remarks: tuple[str, ...] = ()
    """How busy each stage was, and what may be faster."""


def extracting(
    plans: Sequence[SetPlan],
    clips: Sequence[ClipJobs],
    store: FeatureStore,
    tool: DecoderVersion,
    station: Runtime,
    memo: DigestCache,
    *,
    batch_size: int | None,
    readers: int | None,
    limits: DecodeLimits,
    on_next: Callable[[], bool],
) -> Generator[Outcome, None, Pace]:
    """How each of the clips that are left ends, as it does so; they are begun in order.

    `memo` knows the digests by which it was planned.
    """
    if not clips:
        return Pace()
    lacking = [each for each in plans if each.jobs]
    n_readers = min(readers or max(2, n_cores() // 2), len(clips))
    with station.decoders(n_readers, limits) as decoders:
        # all networks before the first clip: weights that do not fit should not show hours later
        built = {each.spec.name: station.encoder(each.config) for each in lacking}
        store.create()
        sizes = {name: batch_size or largest_batch(encoder) for name, encoder in built.items()}
        made_by = {
            each.spec.name: {
                **provenance(),
                "encoder": each.config.model_dump(mode="json"),
                "device": str(station.device),
                "batch_size": sizes[each.spec.name],
            }
            for each in lacking
        }
        with open_cache(store.work) as later:
            later.merge(memo)  # a new store had no place for it
            kind, digests = station.device.type, SourceDigests(later)
            line = ExtractionPipeline(built, sizes, store, digests, tool, made_by, kind, on_next)
            with closing(line.run(clips, decoders)) as ends:
                yield from ends
            seconds = line.meter.wall_s
    exact = [each.config.kind for each in lacking if each.config.precision == "float32"]
    return Pace(seconds, (line.meter.described(), *advice(exact, station.device)))
