"""The flow `extract-features`."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.devices import DeviceName
from features.encoders import AnyEncoderConfig
from features.extraction import Count
from features.extraction import extract_features as extract
from features.forecast import described, forecast
from features.limits import GENEROUS, DecodeLimits
from features.outcomes import Extraction, Outcome
from flows.stages import complete


@task(name="extract", cache_policy=NO_CACHE, persist_result=False)  # the store is the only cache
def extract_task(
    manifest: Path,
    store: str,
    encoders: tuple[AnyEncoderConfig, ...],
    device: DeviceName,
    batch_size: int | None,
    readers: int | None,
    limits: DecodeLimits,
    force: bool,
) -> Extraction:
    """Bring the store up to the manifest; what is extracted is logged with its reason."""
    log = get_run_logger()
    done = 0

    def on_outcome(outcome: Outcome, total: int) -> None:
        nonlocal done
        done += 1
        place = f"{done} of {total}: {outcome.clip} ({outcome.feature_set})"
        if outcome.state == "extracted":
            log.info("%s: extracted, %s", place, outcome.reason)
        elif outcome.state != "present":
            log.error("%s: %s: %s", place, outcome.state, outcome.detail)

    return extract(
        manifest,
        store,
        encoders,
        device=device,
        batch_size=batch_size,
        readers=readers,
        limits=limits,
        force=force,
        on_outcome=on_outcome,
    )


@flow(name="extract-features", persist_result=False)
def extract_features(
    manifest: Path,
    store: str,
    encoders: tuple[AnyEncoderConfig, ...],
    device: DeviceName = "auto",
    batch_size: Count | None = None,
    readers: Count | None = None,
    limits: DecodeLimits = GENEROUS,
    force: bool = False,
    dry_run: bool = False,
) -> dict[str, int]:
    """Encode what the store lacks of the manifest, or with `dry_run` only tell what that would be.

    Returns how many clips met, or would meet, which end; fails, after all others are done, where
    one failed.
    """
    if dry_run:
        found = forecast(manifest, store, encoders, device=device, limits=limits, force=force)
        for line in described(found):
            get_run_logger().info(line)
        return dict(found.counts)
    extraction = extract_task(manifest, store, encoders, device, batch_size, readers, limits, force)
    log = get_run_logger()
    for note in extraction.notes():
        log.info("note: %s", note)
    for line in (extraction.summary(), *extraction.remarks):
        log.info(line)
    return dict(complete(extraction).counts)
