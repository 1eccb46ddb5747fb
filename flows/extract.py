"""The flow `extract-features`."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.devices import DeviceName
from features.encoders import AnyEncoderConfig
from features.extraction import Count, Extraction, Outcome
from features.extraction import extract_features as extract
from features.limits import GENEROUS, DecodeLimits
from flows.stages import complete

LOGGED_SHARE = 10  # a line for every tenth of the clips


@task(name="extract", cache_policy=NO_CACHE, persist_result=False)  # the store is the only cache
def extract_task(
    manifest: Path,
    store: str,
    encoders: tuple[AnyEncoderConfig, ...],
    device: DeviceName,
    batch_size: int,
    readers: int,
    limits: DecodeLimits,
    force: bool,
) -> Extraction:
    """Bring the store up to the manifest; failures and every tenth part are logged."""
    log = get_run_logger()
    done = 0

    def on_outcome(outcome: Outcome, total: int) -> None:
        nonlocal done
        done += 1
        if outcome.state == "failed":
            log.error("%s (%s): %s", outcome.clip, outcome.feature_set, outcome.detail)
        if outcome.state == "extracted" and done % max(1, total // LOGGED_SHARE) == 0:
            log.info("extract-features: %d of %d", done, total)

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
    batch_size: Count = 64,
    readers: Count = 2,
    limits: DecodeLimits = GENEROUS,
    force: bool = False,
) -> dict[str, int]:
    """Encode what the store lacks of the manifest.

    Returns how many clips met which end; fails, after all others are done, where one failed.
    """
    extraction = extract_task(manifest, store, encoders, device, batch_size, readers, limits, force)
    log = get_run_logger()
    for note in extraction.notes():
        log.info("note: %s", note)
    log.info(extraction.summary())
    return dict(complete(extraction).counts)
